from __future__ import annotations

from core.settings import Settings
from stack.environment import settings_environment
from stack.settings_table import DOCUMENT, settings_page


def test_the_documented_table_is_fresh() -> None:
    assert DOCUMENT.read_text() == settings_page(), "run: python -m stack.settings_table"


def test_the_table_names_every_variable() -> None:
    page = settings_page()
    assert all(f"| `{name}` |" in page for name in settings_environment(Settings()))
