"""The page of a model version in MLflow's own UI, as a person with a mouse uses it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

_ALIASES = '[title="Add aliases"], [title="Edit aliases"]'
_CARD = '[data-testid="note-editor-preview-content"]'
_SAVE = '[data-component-id="mlflow.edit-aliases-modal.save-button"]'


class VersionPage:
    """One version's page, opened.

    Args:
        page: of a browser.
        url: MLflow's.
        use_case: the registered model.
        version: which of its versions.
    """

    def __init__(self, page: Page, url: str, use_case: str, version: str) -> None:
        self._page = page
        page.goto(f"{url}/#/models/{use_case}/versions/{version}")
        page.locator(_ALIASES).wait_for()

    def card(self) -> str:
        """The model card, as it is rendered."""
        return self._page.locator(_CARD).inner_text()

    def move_alias(self, alias: str) -> float:
        """Take an alias that another version has, by clicks alone.

        Returns:
            The moment of the last click, in seconds of the monotonic clock.
        """
        page = self._page
        page.locator(_ALIASES).click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("combobox").click()
        page.locator(".du-bois-light-select-item-option", has_text=alias).first.click()
        save = page.locator(_SAVE)
        save.hover()
        clicked_s = time.monotonic()
        save.click()
        return clicked_s

    def wait_for_alias(self, alias: str) -> None:
        """Return when the page says that the version has it."""
        self._page.get_by_role("dialog").wait_for(state="hidden")  # which shows the same alias while it closes
        self._page.get_by_title(alias, exact=True).wait_for()
