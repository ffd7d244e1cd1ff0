from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.use_case import Policy
from monitoring import look as looking
from monitoring.drift_page import DriftReport
from monitoring.look import LiveVersion, Served, look, window_start

NOW = datetime(2019, 2, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Horizon:
    horizon: timedelta = HOUR


@dataclass(frozen=True)
class Features:
    columns: tuple[str, ...] = ("fare",)


class Watched:
    """The parts of a use case that a look needs."""

    label, features, categorical = Horizon(), Features(), ()
    policy = Policy(monitor_window=2 * DAY, min_monitor_rows=10)


LIVE = LiveVersion("2", NOW - 9 * DAY, 0.5, pd.DataFrame({"fare": [1.0], "score": [0.5]}))


def served(hours: list[float], version: str) -> Served:
    ids = [f"{version}-{hour}" for hour in hours]
    at = pd.to_datetime([NOW - hour * HOUR for hour in hours])
    predictions = pd.DataFrame(
        {"prediction_id": ids, "at": at, "version": version, "score": 0.5, "f__fare": np.float32(1)}
    )
    return Served(predictions, pd.DataFrame({"prediction_id": ids, "label": 1, "known_at": at}))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands in for Evidently, which takes seconds to import; what it was asked to compare."""
    asked: list[Any] = []

    def measure(current: pd.DataFrame, reference: pd.DataFrame, **options: Any) -> DriftReport:
        asked.append((current, options))
        return DriftReport({"fare": 0.4}, 0.1, options["threshold"], len(current))

    monkeypatch.setattr(looking, "measure_drift", measure)
    return asked


def test_only_what_the_live_version_answered_counts(measured: list[Any]) -> None:
    old, new = served([1.5 + i for i in range(20)], "1"), served([1.5 + i for i in range(12)], "2")
    both = Served(pd.concat([old.predictions, new.predictions]), pd.concat([old.labels, new.labels]))

    facts = look(Watched(), LIVE, both, as_of=NOW, last_retrain_at=None)  # type: ignore[arg-type]

    assert (facts.version, facts.rows, facts.reference_log_loss) == ("2", 12, 0.5)
    assert facts.performance is not None
    assert facts.performance.rows == 12
    assert facts.drift is not None
    assert (facts.drift.rows, facts.drift.share, facts.drift.drifted) == (12, 1.0, {"fare": 0.4})


def test_drift_is_measured_on_the_window_and_performance_on_what_is_due(measured: list[Any]) -> None:
    hours = [0.5] * 3 + [10.0] * 10 + [48.5] * 5
    window = served(hours, "2")
    window.predictions["prediction_id"] = window.labels["prediction_id"] = [str(i) for i in range(18)]

    facts = look(Watched(), LIVE, window, as_of=NOW, last_retrain_at=None)  # type: ignore[arg-type]

    assert facts.rows == len(measured[0][0]) == 13
    assert facts.performance is not None
    assert facts.performance.rows == 15
    assert window_start(Watched(), NOW) == NOW - 2 * DAY - HOUR  # type: ignore[arg-type]


def test_too_few_rows_are_not_compared(measured: list[Any]) -> None:
    facts = look(Watched(), LIVE, served([2.0] * 9, "2"), as_of=NOW, last_retrain_at=NOW)  # type: ignore[arg-type]

    assert (facts.rows, facts.drift, measured) == (9, None, [])


@pytest.mark.parametrize("live", [None, LIVE])
def test_without_a_version_or_predictions_nothing_is_measured(live: LiveVersion | None, measured: list[Any]) -> None:
    nothing = Served(pd.DataFrame(), pd.DataFrame())

    facts = look(Watched(), live, nothing, as_of=NOW, last_retrain_at=None)  # type: ignore[arg-type]

    assert (facts.rows, facts.performance, facts.drift, measured) == (0, None, None, [])
