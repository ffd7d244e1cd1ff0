"""A headless Chromium for tests of pages, reaching nothing but this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_QUIET = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip


def find_chromium() -> str:
    """The browser on PATH, or the one EVERGREEN_CHROMIUM names."""
    named = os.environ.get("EVERGREEN_CHROMIUM")
    found = named or next((path for name in _NAMES if (path := shutil.which(name))), None)
    assert found, "no Chromium: run `make browser`, or set EVERGREEN_CHROMIUM to the path of one"
    return found


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Start a browser, and end it whatever happens."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # its sandbox does not run as root, as which containers often run
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=[*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened_page(browser: Browser, *, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page in a profile of its own; what goes wrong in its scripts fails the test."""
    context = browser.new_context(viewport={"width": width, "height": height}, locale="en-GB", timezone_id="UTC")
    faults: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert not faults, f"errors in the page's scripts: {faults}"
