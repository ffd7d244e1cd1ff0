"""Promotion happens once, by the lease's holder only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.decision import Decision
from core.errors import LedgerError
from core.ledger import Ledger
from flows.lease import hold
from flows.past import last_retrain_at
from flows.steps import promote, trained_before

NAME = "taxi_tip"
NOW = datetime(2019, 2, 5, tzinfo=UTC)
WIN, LOSS = Decision("promote", "better"), Decision("keep", "no better")


class Aliases:
    """The part of a registry that promotion needs."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, str, str]] = []
        self.champion: str | None = None

    def alias(self, use_case: str, name: str) -> str | None:
        return self.champion

    def set_alias(self, use_case: str, name: str, version: str) -> None:
        self.moves.append((use_case, name, version))


@pytest.fixture
def context(tmp_path: Path) -> Any:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return SimpleNamespace(ledger=ledger, registry=Aliases())


def test_a_winner_becomes_champion_once(context: Any) -> None:
    with hold(context.ledger, "retrain") as lease:
        assert lease is not None
        promote(context, NAME, "4", WIN, NOW, lease)
        promote(context, NAME, "4", WIN, NOW, lease)

    assert context.registry.moves == [(NAME, "challenger", "4"), (NAME, "champion", "4")]
    assert [(e.version, e.action) for e in context.ledger.entries(NAME, kind="promotion")] == [("4", "promote")]


def test_a_champion_that_was_moved_meanwhile_stays(context: Any) -> None:
    judged = Decision("promote", "better", {"challenger": {}, "champion": {"version": "2"}})
    context.registry.champion = "3"
    with hold(context.ledger, "retrain") as lease:
        assert lease is not None
        promote(context, NAME, "4", judged, NOW, lease)

    assert context.registry.moves == [(NAME, "challenger", "4")]
    (kept,) = context.ledger.entries(NAME, kind="promotion")
    assert kept.action == "keep"
    assert "champion became 3 while this was judged against 2" in kept.reason


def test_a_loser_stays_challenger(context: Any) -> None:
    with hold(context.ledger, "retrain") as lease:
        assert lease is not None
        promote(context, NAME, "4", LOSS, NOW, lease)

    assert context.registry.moves == [(NAME, "challenger", "4")]
    assert context.ledger.entries(NAME, kind="promotion") == []


def test_who_lost_the_lease_moves_no_alias(context: Any) -> None:
    with hold(context.ledger, "retrain") as lease:
        assert lease is not None
    with pytest.raises(LedgerError):
        promote(context, NAME, "4", WIN, NOW, lease)

    assert context.registry.moves == []


def test_a_version_is_found_again_by_its_moment_and_its_data(context: Any) -> None:
    verdict = Decision("keep", "no better", {"fingerprint": "f00d"})
    context.ledger.record(NAME, "gate", verdict, actor="t", as_of=NOW, version="4")

    found = trained_before(context, NAME, NOW, "f00d")

    assert found is not None
    assert found.version == "4"
    assert trained_before(context, NAME, NOW, "beef") is None
    assert trained_before(context, NAME, NOW.replace(day=6), "f00d") is None
    assert trained_before(context, "ad_click", NOW, "f00d") is None


def test_the_cooldown_counts_from_what_called_for_a_retrain(context: Any) -> None:
    assert last_retrain_at([]) is None
    for day, action in ((1, "retrain"), (2, "wait"), (3, "failed"), (4, "skipped")):
        context.ledger.record(NAME, "trigger", Decision(action, "x"), actor="t", as_of=NOW.replace(day=day))

    assert last_retrain_at(context.ledger.entries(NAME, kind="trigger")) == NOW.replace(day=1)
