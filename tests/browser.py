"""The system's Chromium, driven by Playwright: it opens pages, clicks, takes pictures.

with browser_page() as page:
    page.goto(url)
    page.fill("#key", "...")
    page.click("main button")
    require_accessible(page)
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
SERIOUS = ("serious", "critical")
"""Impact of what axe-core finds that nobody may be left with."""


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a browser that reaches nothing but this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser.new_page()
        browser.close()


def look_at(page: Page, width: int, *, dark: bool = False) -> None:
    """Give the window a width in CSS pixels, in the light or in the dark."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if dark else "light")


def require_accessible(page: Page) -> None:
    """Refuse a page with a serious finding of axe-core."""
    violations = Axe().run(page).response["violations"]
    found = [
        f"{one['id']}: {one['help']}: {node['html']}"
        for one in violations
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
    assert not found, (page.url, found)
