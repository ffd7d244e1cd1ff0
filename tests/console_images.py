"""Pictures of a running console for the documents: ``python -m tests.console_images URL KEY USE_CASE docs/images``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tests.chromium import running_chromium

_SHOTS: tuple[tuple[str, str, int, int, Literal["light", "dark"]], ...] = (
    ("console.png", "/{use_case}", 1280, 1560, "light"),
    ("console-dark.png", "/{use_case}", 1280, 1560, "dark"),
    ("console-phone.png", "/{use_case}", 375, 1300, "light"),
    ("console-overview.png", "", 1280, 700, "light"),
)


def main(url: str, key: str, use_case: str, folder: Path) -> None:
    """Log in and take each picture."""
    with running_chromium() as browser:
        for name, path, width, height, scheme in _SHOTS:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                          timezone_id="UTC", device_scale_factor=1 if width > 600 else 2)  # fmt: skip
            page = context.new_page()
            page.goto(f"{url}/console/login")
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{url}/console")
            page.goto(f"{url}/console{path.format(use_case=use_case)}")
            page.screenshot(path=folder / name)
            page.screenshot(path=folder / f"whole-{name}", full_page=True)
            context.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
