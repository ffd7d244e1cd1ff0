"""What the status says of a look is what the look recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from core.decision import Decision
from core.ledger import Ledger
from core.policy import Policy
from monitoring.facts import LossPoint, MonitorFacts
from monitoring.triggers import decide_retrain
from stack.judged import read_judged

NOW = datetime(2019, 2, 10, tzinfo=UTC)
DAY = timedelta(days=1)
POINT = LossPoint(
    at=NOW, rows=90, log_loss=0.6, version="7", from_at=NOW - 8 * DAY, to_at=NOW - DAY, due=100, low=0.5, high=0.7
)  # fmt: skip


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with closing(Ledger("sqlite://")) as ledger:
        ledger.migrate()
        yield ledger


def test_the_curve_is_that_of_the_decision(ledger: Ledger) -> None:
    facts = MonitorFacts(
        as_of=NOW, version="7", trained_at=NOW - 9 * DAY, last_retrain_at=None, rows=9, losses=(POINT,)
    )  # fmt: skip
    ledger.record("taxi", "trigger", decide_retrain(facts, Policy()), actor="flow monitor", as_of=NOW)
    (look,) = ledger.entries("taxi")

    found = read_judged(look, None, ())

    assert found.curve == look.evidence["curve"] == [
        {
            "version": "7", "from": "2019-02-02T00:00:00+00:00", "to": "2019-02-09T00:00:00+00:00", "rows": 100,
            "labelled": 90, "log_loss": 0.6, "low": 0.5, "high": 0.7,
        }
    ]  # fmt: skip


def test_what_another_release_recorded_is_left_out(ledger: Ledger) -> None:
    ledger.record("taxi", "trigger", Decision("wait", "", {"facts": {"seen": 1}}), actor="flow monitor", as_of=NOW)
    (look,) = ledger.entries("taxi")

    assert (read_judged(look, None, ()).curve, read_judged(None, None, ()).curve) == ((), ())
