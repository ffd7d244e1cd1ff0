"""The documents say what is true: their code runs, their links lead somewhere."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.discovery import discover
from stack.checking import check_use_cases
from tests.sample_use_case import sample_use_case

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*/*.md")])


def python_of(page: Path) -> str:
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))


def test_the_walk_through_makes_a_use_case_that_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "shop_sales.py").write_text(python_of(ROOT / "docs" / "add_a_use_case.md"))
    shutil.copy(ROOT / "models" / "taxi_tip.py", tmp_path)
    found = discover(tmp_path)
    assert list(found) == ["shop_sales", "taxi_tip"]
    use_case = found["shop_sales"].use_case
    history = use_case.history(tmp_path)
    assert len(history.requests) == len(history.labels) == len(history.events["sales"])
    (verdict,) = check_use_cases(tmp_path, "shop_sales")
    assert verdict.ok, verdict.detail


def test_the_features_page_declares_what_is_accepted() -> None:
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "docs" / "features.md"), names)
    replace(
        sample_use_case(), entities=(names["origin"], names["carrier"]), sources=(names["arrivals"],),
        features=names["features"],
    ).validate()  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"
