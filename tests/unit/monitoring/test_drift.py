from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.policy import DriftPolicy
from core.triggers import DRIFT_KINDS
from monitoring.calling import KINDS, call, is_called, name_moved, rank
from monitoring.drift import find_drift
from monitoring.facts import ColumnDrift, DriftFacts, MonitorFacts
from monitoring.profile import ReferenceProfile
from monitoring.window import WindowProfile

Profiled = Callable[..., ReferenceProfile]
Rows = Callable[..., pd.DataFrame]
POLICY = DriftPolicy()


def look(reference: ReferenceProfile, *windows: pd.DataFrame, policy: DriftPolicy = POLICY) -> DriftFacts:
    return find_drift(reference, [WindowProfile(reference).add(window) for window in windows], policy)


@pytest.mark.parametrize("rows", [500, 2_000])
def test_rows_like_the_references_raise_nothing(reference: ReferenceProfile, make_watched: Rows, rows: int) -> None:
    raised = [
        look(
            reference, make_watched(rows, seed=100 + i, first_day=60 + i, days=7), policy=DriftPolicy(min_effect=0)
        ).over
        for i in range(20)
    ]
    assert raised == [()] * 20


def test_columns_that_moved_are_named_the_furthest_first(reference: ReferenceProfile, make_watched: Rows) -> None:
    window = make_watched(2_000, seed=2, first_day=61, days=7)
    window["minutes"] += 0.2 * 40
    window["miles"] += 0.5 * window["miles"].std()
    found = look(reference, window)
    named = found.over[:2]  # of all that are named a tenth may be wrong, but they come last
    assert [column.column for column in named] == ["miles", "minutes"]
    assert [column.effect for column in named] == pytest.approx([0.5, 0.2], abs=0.08)
    assert all(column.score < 3 for column in found.over[2:])
    assert all(column.effect > column.threshold and column.kind == "data" for column in found.over)
    assert (found.rows, found.columns, found.called) == (2_000, 7, ())
    assert found.windows_over == {"data": 1, "prediction": 0, "label": 0, "concept": 0}


def test_a_small_effect_is_no_drift_however_certain(reference: ReferenceProfile, make_watched: Rows) -> None:
    window = make_watched(2_000, seed=2, first_day=61, days=7)
    window["minutes"] += 0.2 * 40
    assert look(reference, window, policy=DriftPolicy(min_effect=0.3)).over == ()


def test_labels_that_follow_other_rules_are_concept_drift(reference: ReferenceProfile, make_watched: Rows) -> None:
    window = make_watched(2_000, seed=2, first_day=61, days=7)
    window["label"] = (np.random.default_rng(1).random(2_000) < window["score"] * 0.6).astype(float)
    assert {column.kind for column in look(reference, window).over} == {"label", "concept"}


def test_a_shift_of_inputs_that_the_scores_follow_is_no_concept_drift(
    reference: ReferenceProfile, make_watched: Rows
) -> None:
    window = make_watched(2_000, seed=2, first_day=61, days=7)
    many = window[window["fare"] > 12].sample(2_000, replace=True, random_state=1).sort_values("at")
    kinds = {column.kind for column in look(reference, pd.concat([window, many])).over}
    assert kinds == {"data", "prediction", "label"}


def test_what_comes_back_every_week_is_no_drift_and_the_same_on_another_day_is(
    make_watched: Rows, profiled: Profiled
) -> None:
    def seasonal(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(minutes=rows["minutes"] + 80 * (rows["at"].dt.dayofweek >= 5))

    reference = profiled(seasonal(make_watched(12_000, seed=1)))
    saturday = make_watched(1_000, seed=2, first_day=61 + 5, days=1)
    saturday = saturday.assign(at=saturday["at"] - (saturday["at"].iloc[0].dayofweek - 5) * pd.Timedelta(days=1))
    assert saturday["at"].dt.dayofweek.eq(5).all()
    assert look(reference, seasonal(saturday)).over == ()
    tuesday = seasonal(saturday).assign(at=saturday["at"] + pd.Timedelta(days=3))
    assert [column.column for column in look(reference, tuesday).over] == ["minutes"]


def test_a_column_that_wanders_is_given_more_room(make_watched: Rows, profiled: Profiled) -> None:
    def wandering(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
        day = (rows["at"].dt.floor("D") - rows["at"].iloc[0].floor("D")).dt.days
        daily = np.random.default_rng(seed).standard_normal(day.max() + 1)
        return rows.assign(minutes=rows["minutes"] + 20 * daily[day])

    window = make_watched(2_000, seed=2, first_day=61, days=7)
    window["minutes"] += 0.2 * 40
    steady, wanders = (
        profiled(base) for base in (make_watched(12_000, seed=1), wandering(make_watched(12_000, seed=1), 3))
    )
    assert look(steady, window).over[0].column == "minutes"
    assert look(wanders, window).over == ()


def test_features_that_wander_hide_no_concept_drift(make_watched: Rows, profiled: Profiled) -> None:
    base = make_watched(12_000, seed=1)
    week = (base["at"] - base["at"].iloc[0]).dt.days // 7
    for i, name in enumerate(("fare", "miles", "minutes")):
        walk = np.random.default_rng(i).standard_normal(week.max() + 1).cumsum()
        base[name] += (2 * base[name].std() * walk[week]).astype(np.float32)
    held_out = np.where(np.arange(len(base)) >= len(base) - 1_000, base["score"], np.nan)
    reference = profiled(base, scores=held_out)
    window = make_watched(2_000, seed=2, first_day=61, days=7)
    assert "concept" not in {column.kind for column in look(reference, window).over}
    window["label"] = (np.random.default_rng(1).random(2_000) < window["score"] * 0.6).astype(float)
    assert "concept" in {column.kind for column in look(reference, window).over}


def test_a_segment_that_moved_is_named(make_watched: Rows, profiled: Profiled) -> None:
    rows = make_watched(12_000, seed=1)
    reference = profiled(rows, segments={"zone": rows["zone"].to_numpy()})
    window = make_watched(3_000, seed=2, first_day=61, days=7)
    assert look(reference, window).over == ()
    window.loc[window["zone"] == 3, "minutes"] += 60
    found = look(reference, window)
    assert found.over[0].segment == "zone=3"
    assert found.columns == 7 * 4


def test_few_rows_are_not_compared(reference: ReferenceProfile, make_watched: Rows) -> None:
    assert look(reference, make_watched(99, seed=2)) == DriftFacts(
        rows=99, columns=0, windows_over={"data": 0, "prediction": 0, "label": 0, "concept": 0}
    )
    assert find_drift(reference, [], POLICY) == DriftFacts(rows=0, columns=0)


def test_drift_is_called_by_two_of_three_windows(reference: ReferenceProfile, make_watched: Rows) -> None:
    still = [make_watched(1_000, seed=20 + i, first_day=61 + 7 * i, days=7) for i in range(3)]
    moved = [window.assign(minutes=window["minutes"] + 40) for window in still]
    assert look(reference, still[0], moved[1]).called == ()
    assert look(reference, moved[0], still[1], moved[2]).called == ("data",)
    assert look(reference, moved[0], still[1], still[2]).called == ()


def windows(
    *scores: dict[str, float], limit: float = 5.0, effects: Sequence[float] = (0.1, 0.1, 0.1)
) -> list[DriftFacts]:
    """What each window shows, none of which is raised."""
    return [
        DriftFacts(rows=1000, columns=len(each), scores=each, effects=dict.fromkeys(each, effect), limit=limit)
        for each, effect in zip(scores, effects, strict=False)
    ]


def test_windows_that_are_each_a_little_less_call_together() -> None:
    still = {f"still {i}": 0.7 for i in range(20)}
    little, much = still | {"moved": 4.0}, still | {"moved": 40.0}
    assert call(windows(little, little, little), POLICY, {}).called == ("data",)
    assert call(windows(little, little, little), POLICY, {}).moved == ("moved",)
    assert call(windows(little), POLICY, {}).called == ()
    assert call(windows(little, little, little, effects=(0.02, 0.09, 0.03)), POLICY, {}).called == ()  # not worth it
    assert call(windows(little, little, little, effects=(0.02, 0.12, 0.03)), POLICY, {}).called == ("data",)
    assert call(windows(little, little, little, limit=0.0), POLICY, {}).called == ()  # recorded before limits were
    assert call(windows({}, little, {}), POLICY, {}).called == ()
    for alone in ((much, still, still), (still, much, still), (still, still, much)):
        assert call(windows(*({**each, "moved": each.get("moved", 0.5)} for each in alone)), POLICY, {}).called == ()


def test_one_week_in_which_everything_moves_calls_nothing() -> None:
    usual, holiday = {f"c{i}": 0.8 for i in range(30)}, {f"c{i}": 30.0 for i in range(30)}
    for weeks in ((holiday, usual, usual), (usual, holiday, usual), (usual, usual, holiday)):
        assert call(windows(*weeks), POLICY, {}).called == ()
    assert call(windows(usual, holiday, holiday), POLICY, {}).called == ("data",)


def test_what_windows_call_together_goes_on_while_they_do() -> None:
    assert is_called([False] * 3, POLICY, [False, False, True])
    assert is_called([True, True, False, False], POLICY, [False, False, True, True])
    assert not is_called([False] * 4, POLICY, [False, False, True, False])


@given(st.lists(st.booleans(), max_size=12))
def test_calling_has_hysteresis(over: list[bool]) -> None:
    before, now = is_called(over[:-1], POLICY), is_called(over, POLICY)
    newest = over[-3:]
    if before != now:
        assert newest.count(now) >= 2
    assert not (now and newest.count(False) >= 2 and not before)


def test_importance_comes_before_size() -> None:
    def over(column: str, score: float, importance: float) -> ColumnDrift:
        return ColumnDrift(
            column=column, kind="data", effect=1 / score, threshold=0.1, importance=importance, score=score
        )

    ranked = rank([over("certain", 9.0, 0.0), over("vital", 2.0, 0.8), over("both", 8.0, 0.4)])
    assert [found.column for found in ranked] == ["both", "vital", "certain"]
    assert [found.column for found in rank([over("a", 2.0, 0.0), over("b", 3.0, 0.0)])] == ["b", "a"]


def test_what_one_window_leaves_open_several_tell() -> None:
    still = {f"still {i}": 0.8 for i in range(20)}
    first, second = still | {"moved": 4.0, "once": 3.5, "label": 9.0}, still | {"moved": 4.0, "once": 0.2, "label": 9.0}
    assert set(name_moved(windows(first), ("data",), POLICY, {})) == {"moved", "once"}
    assert name_moved(windows(first, second), ("data",), POLICY, {}) == ("moved",)
    assert name_moved(windows({}, second), ("data", "label"), POLICY, {}) == ("label", "moved")
    assert name_moved(windows(first, second), (), POLICY, {}) == ()
    assert name_moved([], ("data",), POLICY, {}) == ()


def test_what_several_windows_name_is_told_when_drift_is_called(
    reference: ReferenceProfile, make_watched: Rows
) -> None:
    moved = [make_watched(1_000, seed=20 + i, first_day=61 + 7 * i, days=7) for i in range(3)]
    moved = [window.assign(minutes=window["minutes"] + 20) for window in moved]
    assert look(reference, moved[0]).moved == ()
    found = look(reference, *moved)
    assert (found.called, found.moved) == (("data",), ("minutes",))
    assert found.scores["minutes"] > 5


def test_small_moves_of_several_columns_are_seen_together(reference: ReferenceProfile, make_watched: Rows) -> None:
    window = make_watched(2_000, seed=2, first_day=61, days=7)
    alone, together = window.copy(), window.copy()
    alone["minutes"] += 0.07 * alone["minutes"].std()
    for column in ("minutes", "miles", "fare"):
        together[column] += 0.07 * together[column].std()
    assert look(reference, alone).over == ()
    assert {"minutes", "miles", "fare"} >= {column.column for column in look(reference, together).over} != set()


def test_facts_from_before_scores_can_be_read() -> None:
    recorded = {"rows": 9, "columns": 1, "over": [], "windows_over": None, "called": []}
    facts = MonitorFacts.from_json(
        {"as_of": "2026-01-01T00:00:00Z", "version": "1", "trained_at": None, "last_retrain_at": None, "rows": 9}
        | {"drift": recorded}
    )
    assert facts.drift == DriftFacts(rows=9, columns=1)


def test_thresholds_are_found_once_for_windows_of_a_size(reference: ReferenceProfile, make_watched: Rows) -> None:
    look(reference, make_watched(1_000, seed=2, first_day=61, days=7))
    known = len(reference.calibrated)
    look(reference, make_watched(1_000, seed=3, first_day=61, days=7))
    assert len(reference.calibrated) == known


def test_what_is_measured_is_what_triggers_may_ask_for() -> None:
    assert KINDS == DRIFT_KINDS
