from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.facts import Fault
from monitoring.label_counts import LabelCounts, LabelDay, count_labels
from monitoring.profile import ReferenceProfile
from monitoring.profiling import profile_reference
from monitoring.quality import find_faults
from monitoring.window import WindowProfile

Rows = Callable[..., pd.DataFrame]
HOUR = timedelta(hours=1)


def faults(reference: ReferenceProfile, rows: pd.DataFrame, **more: object) -> list[tuple[str, str]]:
    found = look(reference, rows, **more)
    return [(fault.column, fault.kind) for fault in found]


def look(reference: ReferenceProfile, rows: pd.DataFrame, **more: object) -> tuple[Fault, ...]:
    as_of = more.pop("as_of", rows["at"].max().to_pydatetime())
    window = WindowProfile(reference).add(rows)
    return find_faults(reference, window, as_of=as_of, **more)  # type: ignore[arg-type]


@pytest.fixture
def week(make_watched: Rows) -> pd.DataFrame:
    return make_watched(2_000, seed=2, first_day=61, days=7)


def labels_of(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["prediction_id", "label"]].assign(known_at=rows["at"] + pd.Timedelta(minutes=20))


@pytest.mark.parametrize("rows", [300, 2_000])
def test_clean_data_have_no_faults(reference: ReferenceProfile, make_watched: Rows, rows: int) -> None:
    for i in range(20):
        window = make_watched(rows, seed=50 + i, first_day=61 + i, days=7)
        as_of = window["at"].max().to_pydatetime()
        counts = count_labels(window, labels_of(window), horizon=HOUR, as_of=as_of)
        assert faults(reference, window, labels=counts) == []


@pytest.mark.parametrize(
    ("kind", "column", "broken"),
    [
        ("nulls", "miles", lambda rows: {"miles": rows["miles"].where(np.arange(len(rows)) % 10 > 0)}),
        ("unit", "miles", lambda rows: {"miles": rows["miles"] * 1.609344}),
        ("unit", "fare", lambda rows: {"fare": rows["fare"] * 100}),
        ("stuck", "minutes", lambda rows: {"minutes": rows["minutes"].where(np.arange(len(rows)) < 1_200, 0.0)}),
        ("category gone", "zone", lambda rows: {"zone": rows["zone"].replace(3.0, 1.0)}),
        ("category new", "zone", lambda rows: {"zone": rows["zone"].replace(3.0, 9.0)}),
        ("swapped", "fare, minutes", lambda rows: {"fare": rows["minutes"], "minutes": rows["fare"]}),
    ],
)
def test_broken_columns_are_named(
    reference: ReferenceProfile,
    week: pd.DataFrame,
    kind: str,
    column: str,
    broken: Callable[[pd.DataFrame], dict[str, pd.Series]],
) -> None:
    assert (column, kind) in faults(reference, week.assign(**broken(week)))


def test_columns_that_look_alike_are_known_by_their_relations(make_watched: Rows) -> None:
    def with_time(rows: pd.DataFrame) -> pd.DataFrame:
        rng = np.random.default_rng(len(rows))
        minutes = 1.1 * rows["fare"] + rng.normal(0, 5, len(rows))
        return rows.assign(
            minutes=minutes.astype(np.float32), miles=(rows["fare"] + rng.normal(0, 1, len(rows))).astype(np.float32)
        )

    rows = with_time(make_watched(12_000, seed=1))
    names = ["fare", "miles", "minutes", "zone"]
    at = rows["at"].dt.tz_convert(None).to_numpy()
    found = profile_reference(rows[names].to_numpy(dtype=np.float32), names, at=at, categorical=("zone",))
    week = with_time(make_watched(2_000, seed=2, first_day=61, days=7))

    assert faults(found, week) == []
    assert faults(found, week.assign(fare=week["minutes"], minutes=week["fare"])) == [("fare, minutes", "swapped")]


@pytest.mark.parametrize("times", [1.2, 5.0])
def test_a_growth_that_is_no_unit_is_drift_and_no_fault(
    reference: ReferenceProfile, week: pd.DataFrame, times: float
) -> None:
    assert faults(reference, week.assign(miles=week["miles"] * times)) == []


def test_a_missing_column_is_named_as_missing(reference: ReferenceProfile, week: pd.DataFrame) -> None:
    found = look(reference, week.drop(columns="fare"))
    assert [(fault.column, fault.kind) for fault in found] == [("fare", "nulls")]
    assert "the column is not there" in found[0].detail


def test_a_source_that_stopped_and_a_clock_that_is_ahead(reference: ReferenceProfile, week: pd.DataFrame) -> None:
    newest: datetime = week["at"].max().to_pydatetime()
    minutes = timedelta(minutes=1)
    assert faults(reference, week, as_of=newest - 10 * minutes) == [("", "clock")]
    assert faults(reference, week, as_of=newest + timedelta(days=1)) == [("", "stale source")]
    events = {"trips": newest + 9 * minutes, "fares": newest - 40 * minutes}
    paused = replace(reference, pauses_s={"fares": 600, "trips": 600})
    assert faults(paused, week, newest_event_at=events) == [
        ("trips", "clock"),
        ("fares", "stale source"),
    ]
    assert faults(reference, week, newest_event_at=events) == [("trips", "clock")], "its usual pause is not known"


@pytest.mark.parametrize(("share", "seen"), [(0.01, False), (0.1, True), (0.4, True)])
def test_flipped_labels_contradict_the_surest_scores_as_much_as_the_others(
    reference: ReferenceProfile, make_watched: Rows, share: float, seen: bool
) -> None:
    rows = make_watched(3_000, seed=2, first_day=61, days=7)
    hit = np.random.default_rng(1).random(3_000) < share
    found = faults(reference, rows.assign(label=rows["label"].where(~hit, 1 - rows["label"])))
    assert found == ([("label", "labels flipped")] if seen else [])


@pytest.mark.parametrize("logit", [-1.0, -0.5, 0.5, 1.0])
def test_odds_that_change_are_no_fault(reference: ReferenceProfile, week: pd.DataFrame, logit: float) -> None:
    chance = 1 / (1 + np.exp(-np.log(week["score"] / (1 - week["score"])) - logit))
    label = (np.random.default_rng(1).random(len(week)) < chance).astype(float)
    assert faults(reference, week.assign(label=label)) == []


def test_labels_missing_repeated_early_and_all_alike(reference: ReferenceProfile, week: pd.DataFrame) -> None:
    labels, as_of = labels_of(week), week["at"].max().to_pydatetime() + HOUR

    def kinds(rows: pd.DataFrame) -> list[str]:
        counts = count_labels(week, rows, horizon=HOUR, as_of=as_of)
        return [kind for _, kind in faults(reference, week, labels=counts)]

    day = week["at"].dt.floor("D")
    assert kinds(labels) == []
    assert kinds(labels[day != day.iloc[900]]) == ["labels missing"]
    assert kinds(pd.concat([labels, labels[:100]])) == ["duplicates"]
    assert kinds(pd.concat([labels, labels[:100].assign(label=1 - labels["label"][:100])])) == ["duplicates"]
    assert kinds(labels.assign(known_at=week["at"] - pd.Timedelta(minutes=10))) == ["clock"]
    assert kinds(labels.assign(label=labels["label"].where(day != day.iloc[900], 1.0))) == ["labels flipped"]


def test_labels_are_counted_by_day_and_corrections_after_the_horizon_are_none(make_watched: Rows) -> None:
    rows = make_watched(100, seed=1, days=2)
    labels = labels_of(rows)
    late = labels[:5].assign(label=1 - labels["label"][:5], known_at=rows["at"][:5] + 2 * HOUR)
    counts = count_labels(rows, pd.concat([labels, late]), horizon=HOUR, as_of=rows["at"].max().to_pydatetime() + HOUR)
    assert sum(day.labelled for day in counts.days) == sum(day.due for day in counts.days) == 100
    assert (counts.received, counts.repeated, counts.contradicting, counts.early) == (105, 0, 0, 0)
    nothing = count_labels(rows, labels[:0], horizon=HOUR, as_of=rows["at"].max().to_pydatetime() + HOUR)
    assert sum(day.labelled for day in nothing.days) == 0


def test_labels_are_judged_without_predictions_in_the_window(reference: ReferenceProfile) -> None:
    day = datetime(2026, 3, 9).date()
    counts = LabelCounts(days=(LabelDay(day, 500, 0, 0), LabelDay(day, 500, 480, 200), LabelDay(day, 500, 490, 210)))
    window = WindowProfile(reference)
    found = find_faults(reference, window, as_of=datetime.fromisoformat("2026-03-12T00:00:00+00:00"), labels=counts)
    assert [fault.kind for fault in found] == ["labels missing"]
