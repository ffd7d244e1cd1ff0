"""A page is drawn when it is worth one, and kept with the version, whatever becomes of the registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from core.decision import Decision
from core.errors import DependencyDown
from flows import look_page as module
from flows.look_page import keep_page
from monitoring.live import LiveVersion, Served
from tests.sample_use_case import sample_use_case

NOW = datetime(2019, 2, 5, tzinfo=UTC)
LIVE = LiveVersion("3", NOW, 0.5, pd.DataFrame())
SERVED = Served(pd.DataFrame(), pd.DataFrame())
WAIT, RETRAIN = Decision("wait", "as it is"), Decision("retrain", "it is time")


class Registry:
    def __init__(self, problem: Exception | None = None) -> None:
        self.looks: list[tuple[str, str, datetime, str, Mapping[str, float]]] = []
        self._problem = problem

    def log_look(
        self, use_case: str, version: str, *, at: datetime, page: Path, distances: Mapping[str, float]
    ) -> None:
        if self._problem:
            raise self._problem
        self.looks.append((use_case, version, at, page.read_text(), distances))


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(use_case: Any, live: Any, served: Any, *, as_of: datetime, page: Path, curve: Any) -> dict[str, float]:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"as of {as_of:%Y-%m-%d}")
        return {"amount": 0.3}

    monkeypatch.setattr(module, "draw_page", draw)


def context(home: Path, registry: Registry) -> Any:
    return SimpleNamespace(settings=SimpleNamespace(home=home), registry=registry)


def test_the_first_look_and_those_that_decide_are_kept(tmp_path: Path) -> None:
    registry, sample = Registry(), sample_use_case()

    for day, decision in ((5, WAIT), (6, WAIT), (7, RETRAIN)):
        keep_page(context(tmp_path, registry), sample, LIVE, SERVED, decision, NOW.replace(day=day))

    assert registry.looks == [
        ("sample", "3", NOW.replace(day=day), f"as of 2019-02-0{day}", {"amount": 0.3}) for day in (5, 7)
    ]
    assert sorted(page.name for page in (tmp_path / "reports" / "sample").iterdir()) == [
        "2019-02-05T000000-v3.html", "2019-02-07T000000-v3.html",
    ]  # fmt: skip


def test_a_registry_that_is_away_costs_no_look(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(DependencyDown("MLflow at http://127.0.0.1:1", "refused"))

    with caplog.at_level(logging.WARNING):
        keep_page(context(tmp_path, registry), sample_use_case(), LIVE, SERVED, RETRAIN, NOW)

    page = tmp_path / "reports" / "sample" / "2019-02-05T000000-v3.html"
    assert page.read_text() == "as of 2019-02-05"
    assert str(page) in caplog.text
    assert "MLflow at http://127.0.0.1:1" in caplog.text
