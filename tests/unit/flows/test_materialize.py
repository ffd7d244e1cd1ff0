"""Which batch views a scheduled run refreshes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.decision import Decision
from core.ledger import Ledger
from features.definitions import feature_set
from flows.materialize import is_due
from tests.rich_use_case import rich_use_case

NOW = datetime(2020, 3, 1, tzinfo=UTC)


@pytest.fixture
def context(tmp_path: Path) -> Any:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    return SimpleNamespace(ledger=ledger)


def test_computed_views_keep_their_rhythm_and_tables_are_always_looked_at(context: Any) -> None:
    use_case = rich_use_case()
    profile, price = feature_set(use_case).batch_views
    every = use_case.policy.materialize_every

    assert is_due(context, use_case, profile, NOW)
    for view in (profile, price):
        done = Decision("publish", "", {"view": view.name})
        context.ledger.record(use_case.name, "materialize", done, actor="test", as_of=NOW)
    context.ledger.record(
        use_case.name, "materialize", Decision("skip", "", {"view": profile.name}), actor="test", as_of=NOW + every / 2
    )
    assert not is_due(context, use_case, profile, NOW + every - timedelta(hours=1))
    assert is_due(context, use_case, profile, NOW + every - timedelta(minutes=1))
    assert is_due(context, use_case, price, NOW)
