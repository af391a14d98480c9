"""Pictures of the web app for the documents: Today, and the first plan that is due.

`python -m tests.web_pictures URL KEY` takes them from a running `hustings web`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser import Browser
from tests.checkout import ROOT

FOLDER = ROOT / ".github" / "docs"
WIDTH, HEIGHT = 1080, 1120


def take(url: str, key: str) -> None:
    with TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        browser.size(WIDTH, HEIGHT)
        browser.open(url)
        browser.type("#key", key)
        browser.click("main button")
        browser.picture(FOLDER / "web-today.png", most_px=HEIGHT)
        browser.click("main a[href^='/plans/']")
        browser.picture(FOLDER / "web-plan.png", most_px=HEIGHT)


if __name__ == "__main__":
    take(*sys.argv[1:3])
