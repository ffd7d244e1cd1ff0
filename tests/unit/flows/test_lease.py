from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.clock import ManualClock
from core.errors import LedgerError
from core.ledger import Ledger
from flows.lease import hold


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2019, 2, 2, tzinfo=UTC))


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)
    ledger.migrate()
    return ledger


def test_one_at_a_time(ledger: Ledger) -> None:
    with hold(ledger, "retrain/taxi_tip") as first, hold(ledger, "retrain/taxi_tip") as second:
        assert first is not None
        assert second is None
        first.require()


def test_is_given_back_even_after_a_failure(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), hold(ledger, "retrain/taxi_tip"):
        raise ZeroDivisionError

    with hold(ledger, "retrain/taxi_tip") as lease:
        assert lease is not None


def test_a_holder_that_was_presumed_dead_may_not_go_on(ledger: Ledger, clock: ManualClock) -> None:
    with hold(ledger, "retrain/taxi_tip") as stalled:
        assert stalled is not None
        clock.advance(timedelta(minutes=2))
        with hold(ledger, "retrain/taxi_tip") as successor:
            assert successor is not None
            assert successor.token > stalled.token
            successor.require()
            with pytest.raises(LedgerError, match="was lost to another holder"):
                stalled.require()
        with pytest.raises(LedgerError):
            stalled.require()
