from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.policy import Policy
from monitoring.facts import ColumnDrift, DriftFacts, LossPoint, MonitorFacts
from monitoring.live import LOOKS, LiveVersion, Past, Served, window_start, worth_remembering
from monitoring.look import look
from monitoring.profile import ReferenceProfile
from monitoring.profiling import profile_reference

NOW = datetime(2019, 2, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLICY = Policy(monitor_window=2 * DAY, min_monitor_rows=10, monitor_every=DAY)


@dataclass(frozen=True)
class Horizon:
    horizon: timedelta = HOUR


@dataclass(frozen=True)
class Features:
    columns: tuple[str, ...] = ("fare",)


class Watched:
    """The parts of a use case that a look needs."""

    label, features, categorical, codes = Horizon(), Features(), (), ()
    policy = POLICY


def frame(hours: np.ndarray[Any, Any], shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Rows so many hours before the look, oldest first, with calibrated scores."""
    rng, n = np.random.default_rng(seed), len(hours)
    score = rng.uniform(0.1, 0.9, n)
    at = pd.to_datetime([NOW - float(hour) * HOUR for hour in sorted(hours, reverse=True)]).astype(
        "datetime64[us, UTC]"
    )
    return pd.DataFrame(
        {"at": at, "fare": (rng.normal(10 + shift, 2, n)).astype(np.float32), "score": score.astype(np.float32),
         "label": (rng.random(n) < score).astype(np.int64)}
    )  # fmt: skip


@cache
def profile() -> ReferenceProfile:
    rows = frame(np.linspace(200, 1600, 6000), seed=1)
    return profile_reference(
        rows[["fare"]].to_numpy(), ("fare",), at=rows["at"].dt.tz_convert(None).to_numpy(),
        scores=rows["score"].to_numpy(), labels=rows["label"].to_numpy(),
    )  # fmt: skip


def live(version: str = "2", *, profiled: bool = True) -> LiveVersion:
    reference = frame(np.linspace(200, 400, 500), seed=2)
    return LiveVersion(version, NOW - 9 * DAY, 0.5, reference, 500, profile() if profiled else None)


def served(hours: np.ndarray[Any, Any], version: str = "2", shift: float = 0.0) -> Served:
    rows = frame(hours, shift)
    ids = [f"{version}-{i}" for i in range(len(rows))]
    predictions = rows.drop(columns="label").rename(columns={"fare": "f__fare"}).assign(
        prediction_id=ids, version=version
    )  # fmt: skip
    labels = pd.DataFrame({"prediction_id": ids, "label": rows["label"], "known_at": rows["at"] + HOUR / 2})
    return Served(predictions, labels)


def seen(kind: str | None, at: datetime, **more: Any) -> MonitorFacts:
    over = (ColumnDrift(column="fare", kind=kind, effect=1.0, threshold=0.1),) if kind else ()  # type: ignore[arg-type]
    drift = DriftFacts(rows=100, columns=1, over=over)
    return MonitorFacts(
        as_of=at, version="2", trained_at=NOW - 9 * DAY, last_retrain_at=None, rows=100, drift=drift, **more
    )


def facts(given: Served, past: Past | None = None, version: LiveVersion | None = None) -> MonitorFacts:
    return look(Watched(), version or live(), given, past or Past(), as_of=NOW)  # type: ignore[arg-type]


def test_only_what_the_live_version_itself_answered_counts() -> None:
    old, new = served(np.linspace(1.5, 40, 200), "1"), served(np.linspace(1.5, 40, 120), "2")
    both = Served(
        pd.concat([old.predictions, new.predictions], ignore_index=True).sort_values("at", ignore_index=True),
        pd.concat([old.labels, new.labels], ignore_index=True),
    )

    found = facts(both)

    assert (found.version, found.rows, found.reference_log_loss, found.reference_rows) == ("2", 120, 0.5, 500)
    assert found.performance is not None
    assert found.performance.rows == 120
    assert found.drift is not None
    assert found.drift.rows == 120
    assert found.rows_per_day == 160
    (point,) = found.losses
    assert (point.at, point.rows, point.version) == (NOW, 120, "2")
    assert point.log_loss == found.performance.log_loss.value  # type: ignore[union-attr]


def test_performance_counts_what_is_due_and_drift_what_is_in_the_window() -> None:
    found = facts(served(np.r_[np.full(30, 0.5), np.linspace(2, 47, 100), np.full(50, 48.5)]))

    assert found.rows == 130
    assert found.performance is not None
    assert found.performance.rows == 150
    assert window_start(Watched(), NOW) == NOW - 2 * DAY - HOUR  # type: ignore[arg-type]


def test_one_window_that_moved_is_not_drift_yet_and_two_are() -> None:
    moved = served(np.linspace(1.5, 47, 1500), shift=2.0)

    alone = facts(moved)
    again = facts(moved, Past(looks=[seen("data", NOW - 2 * DAY)]))
    apart = facts(moved, Past(looks=[seen("data", NOW - DAY)]))

    assert alone.drift is not None
    assert [each.column for each in alone.drift.over] == ["fare"]
    assert alone.drift.called == ()
    assert again.drift is not None
    assert (again.drift.called, again.drift.windows_over["data"]) == (("data",), 2)  # type: ignore[index]
    assert apart.drift is not None
    assert apart.drift.called == (), "the window before overlaps this one"


def test_what_another_version_saw_is_not_held_against_this_one() -> None:
    before = seen("data", NOW - 2 * DAY, losses=(LossPoint(at=NOW - 2 * DAY, rows=9, log_loss=9.0),))

    found = facts(served(np.linspace(1.5, 47, 1500), shift=2.0), Past(looks=[before.with_(version="1")]))

    assert found.drift is not None
    assert found.drift.called == ()
    assert [point.at for point in found.losses] == [NOW]


def test_a_unit_change_is_a_fault_of_the_data() -> None:
    given = served(np.linspace(0.01, 47, 1500))
    as_it_was = facts(given)
    given.predictions["f__fare"] *= 100

    found = facts(given)

    assert as_it_was.faults == ()
    assert {fault.column for fault in found.faults} == {"fare"}


def test_too_few_rows_are_not_compared() -> None:
    found = facts(served(np.full(9, 2.0)))

    assert (found.rows, found.drift, found.estimate) == (9, None, None)


def test_without_a_profile_neither_drift_nor_faults_are_looked_for() -> None:
    found = facts(served(np.linspace(1.5, 47, 500), shift=5.0), version=live(profiled=False))

    assert (found.drift, found.faults) == (None, ())
    assert found.performance is not None


def test_labels_that_are_out_are_estimated() -> None:
    given = served(np.linspace(0.01, 47, 1500))
    known = given.labels[given.predictions["at"] < NOW - DAY]

    found = facts(Served(given.predictions, known))

    assert found.estimate is not None
    assert found.estimate.rows == 1500 - len(known)


def test_the_past_goes_into_the_facts() -> None:
    past = Past(last_retrain_at=NOW - 3 * DAY, retrain_s=7.0, labels_since_training=5)

    found = facts(served(np.full(9, 2.0)), past)

    assert (found.last_retrain_at, found.retrain_s, found.labels_since_training) == (NOW - 3 * DAY, 7.0, 5)
    assert found.look_every_s == 86_400


@pytest.mark.parametrize("version", [None, live()])
def test_without_a_version_or_predictions_nothing_is_measured(version: LiveVersion | None) -> None:
    found = look(Watched(), version, Served(pd.DataFrame(), pd.DataFrame()), Past(), as_of=NOW)  # type: ignore[arg-type]

    assert (found.rows, found.performance, found.drift, found.faults) == (0, None, None, ())


def test_looks_worth_remembering_are_the_newest_and_those_a_window_apart() -> None:
    hourly = [NOW + i * HOUR for i in range(24 * 60)]

    kept = worth_remembering(hourly, 2 * DAY)

    assert kept[-1] == len(hourly) - 1
    assert len(kept) == LOOKS
    assert all(hourly[b] - hourly[a] >= 2 * DAY for a, b in pairwise(kept))
    assert worth_remembering([], DAY) == []
