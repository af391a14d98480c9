"""Pictures of the web app for the documents: Today, the first plan that is due, Power.

`python -m tests.web_pictures URL KEY` takes them from a running `hustings web`.
"""

import sys

from tests.browser import browser_page
from tests.checkout import ROOT

FOLDER = ROOT / ".github" / "docs"
WIDTH, HEIGHT = 1080, 1120


def take(url: str, key: str) -> None:
    with browser_page() as page:
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.goto(url)
        page.fill("#key", key)
        page.click("main button")
        page.screenshot(path=FOLDER / "web-today.png")
        page.click("main a[href^='/plans/']")
        page.screenshot(path=FOLDER / "web-plan.png")
        page.click("nav >> text=Power")
        page.screenshot(path=FOLDER / "web-power.png")


if __name__ == "__main__":
    take(*sys.argv[1:3])
