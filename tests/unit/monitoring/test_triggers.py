"""Every trigger, alone and put together; faults block; what was decided can be decided again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.policy import Policy
from core.triggers import (
    AllOf,
    Always,
    AnyOf,
    Drift,
    EstimatedDrop,
    KOf,
    Never,
    NewLabels,
    PerformanceDrop,
    Schedule,
    Trigger,
    WorthIt,
    calls_upon,
)
from monitoring.facts import (
    ColumnDrift,
    DriftFacts,
    EstimateFacts,
    Fault,
    Interval,
    Kind,
    LossPoint,
    MonitorFacts,
    PerformanceFacts,
)
from monitoring.triggers import decide_retrain, redecide

NOW = datetime(2019, 2, 10, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = Policy()
FAULT = Fault(column="fare", kind="unit", detail="fares are 100 times what they were")


def interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def performance(log_loss: float = 0.5, rows: int = 1000, half: float = 0.02, auc: float = 0.7) -> PerformanceFacts:
    return PerformanceFacts(
        rows=rows, coverage=1.0, log_loss=interval(log_loss, half), auc=interval(auc, 0.03), brier=interval(0.2),
        base_rate=0.5, from_at=NOW - 7 * DAY, to_at=NOW,
    )  # fmt: skip


def facts(**changes: Any) -> MonitorFacts:
    return replace(
        MonitorFacts(
            as_of=NOW, version="3", trained_at=NOW - 20 * DAY, last_retrain_at=NOW - 20 * DAY, rows=1000,
            performance=performance(), reference_log_loss=0.5, drift=drift(), look_every_s=7 * 86_400.0,
        ),
        **changes,
    )  # fmt: skip


def drift(*called: Kind) -> DriftFacts:
    over = tuple(ColumnDrift(column="fare", kind=kind, effect=0.4, threshold=0.1) for kind in called)
    return DriftFacts(rows=1000, columns=30, over=over, called=called)


def estimate(log_loss: float, **more: Any) -> EstimateFacts:
    return EstimateFacts(method="confidence", rows=1000, log_loss=interval(log_loss), **more)


def losses(*values: float, rows: int = 1000) -> tuple[LossPoint, ...]:
    n = len(values)
    return tuple(LossPoint(at=NOW - (n - 1 - i) * 7 * DAY, rows=rows, log_loss=value) for i, value in enumerate(values))


WORTH = {"losses": losses(0.6, 0.6, 0.6), "retrain_s": 1.0, "rows_per_day": 100.0, "performance": performance(0.6)}
FIRES: list[tuple[Trigger, dict[str, Any], str, str]] = [
    (Always(), {}, "always", "at every look"),
    (Schedule(20 * DAY), {}, "schedule", "20 days ago"),
    (Schedule(20 * DAY), {"last_retrain_at": None}, "schedule", "20 days ago"),
    (NewLabels(300), {"labels_since_training": 300}, "labels", "300 labels came"),
    (Drift(), {"drift": drift("data")}, "drift", "data drift is called (fare 0.40 of 0.10)"),
    (Drift(("concept",)), {"drift": drift("data", "concept")}, "drift", "concept drift is called"),
    (PerformanceDrop(0.1), {"performance": performance(0.58)}, "performance", "+16.0% against the reference 0.5000"),
    (EstimatedDrop(0.1), {"estimate": estimate(0.6)}, "estimate", "estimated log-loss 0.6000 on 1000 rows"),
    (WorthIt(1.0), WORTH, "cost", "the worth of the 1.0 s that a retrain takes"),
]
WAITS: list[tuple[Trigger, dict[str, Any], str]] = [
    (Never(), {}, "never retrains"),
    (Schedule(21 * DAY), {}, "20 days ago; one is due every 21 days"),
    (Schedule(DAY), {"trained_at": None, "last_retrain_at": None}, "unknown when"),
    (NewLabels(300), {"labels_since_training": 299}, "299 labels came"),
    (Drift(), {}, "no drift is called"),
    (Drift(("label",)), {"drift": drift("data")}, "data drift is called, which does not count here"),
    (Drift(), {"drift": None}, "drift was not measured on 1000 predictions"),
    (PerformanceDrop(0.1), {"performance": performance(0.58, half=0.04)}, "at least +8.0%"),
    (PerformanceDrop(0.1), {"performance": performance(0.58), "reference_rows": 100}, "beyond +10% calls"),
    (PerformanceDrop(0.1), {"performance": performance(0.9, rows=499)}, "499 labelled predictions are too few"),
    (PerformanceDrop(0.1), {"performance": None}, "0 labelled predictions are too few"),
    (PerformanceDrop(0.1), {"performance": performance(0.9), "reference_log_loss": None}, "is unknown"),
    (PerformanceDrop(0.1), {"performance": performance(0.9), "reference_log_loss": float("nan")}, "is unknown"),
    (EstimatedDrop(0.1), {}, "too few to estimate on"),
    (EstimatedDrop(0.1), {"estimate": estimate(0.9, blind="concept drift")}, "blind: concept drift"),
    (EstimatedDrop(0.1), {"estimate": estimate(0.6, realised_error=0.05)}, "at least +6.0%"),
    (WorthIt(1.0), WORTH | {"retrain_s": None}, "costs is unknown"),
    (WorthIt(1.0), WORTH | {"losses": ()}, "would gain is unknown"),
    (WorthIt(1.0), WORTH | {"losses": losses(0.5, 0.5, 0.5)}, "expected gain 0.0 nats"),
    (WorthIt(100.0), WORTH, "against 100.0"),
    (WorthIt(1.0), WORTH | {"rows_per_day": 1.0}, "over 7 predictions"),
]


@pytest.mark.parametrize(("trigger", "changes", "name", "said"), FIRES)
def test_calls_for_a_retrain(trigger: Trigger, changes: dict[str, Any], name: str, said: str) -> None:
    decision = decide_retrain(facts(**changes), replace(POLICY, trigger=trigger))

    assert (decision.action, decision.evidence["trigger"]) == ("retrain", name)
    assert said in decision.reason


@pytest.mark.parametrize(("trigger", "changes", "said"), WAITS)
def test_waits_and_says_why(trigger: Trigger, changes: dict[str, Any], said: str) -> None:
    decision = decide_retrain(facts(**changes), replace(POLICY, trigger=trigger))

    assert decision.action == "wait"
    assert "trigger" not in decision.evidence
    assert said in decision.reason


YES, NO = Schedule(DAY), NewLabels(10**9)


@pytest.mark.parametrize(
    ("trigger", "action"),
    [
        (AnyOf((NO, YES)), "retrain"),
        (AnyOf((NO, NO)), "wait"),
        (AllOf((YES, YES)), "retrain"),
        (AllOf((YES, NO)), "wait"),
        (KOf(2, (YES, NO, YES)), "retrain"),
        (KOf(2, (YES, NO, NO)), "wait"),
        (AnyOf((AllOf((YES, NO)), KOf(1, (NO, YES)))), "retrain"),
    ],
)
def test_triggers_are_put_together(trigger: Trigger, action: str) -> None:
    decision = decide_retrain(facts(), replace(POLICY, trigger=trigger))

    assert decision.action == action
    assert decision.evidence["answers"]["fired"] == (action == "retrain")


def test_of_several_each_says_why_not() -> None:
    decision = decide_retrain(facts(), POLICY)

    said = {part["name"]: part for part in decision.evidence["answers"]["parts"]}
    assert list(said) == ["performance", "drift", "schedule"]
    assert not any(part["fired"] for part in said.values())
    assert all(part["reason"] in decision.reason for part in said.values())


def test_the_first_that_fires_gives_its_name() -> None:
    seen = facts(performance=performance(0.9), drift=drift("data"))

    decision = decide_retrain(seen, POLICY)

    assert decision.evidence["trigger"] == "performance"
    assert decision.evidence["fired"] == ["performance", "drift"]


@pytest.mark.parametrize("trigger", [PerformanceDrop(0.1), Drift(), NewLabels(1), EstimatedDrop(0.1), WorthIt(1.0)])
def test_what_is_watched_rests_after_a_retrain(trigger: Trigger) -> None:
    seen = facts(
        **WORTH | {"performance": performance(0.9)}, drift=drift("data"), labels_since_training=10,
        estimate=estimate(0.9), last_retrain_at=NOW - 4 * DAY,
    )  # fmt: skip
    policy = replace(POLICY, trigger=trigger)

    assert decide_retrain(facts(**{**vars(seen), "last_retrain_at": NOW - 5 * DAY}), policy).action == "retrain"
    resting = decide_retrain(seen, policy)
    assert resting.action == "wait"
    assert "the cooldown is 5 days" in resting.reason


@pytest.mark.parametrize(
    ("trigger", "refused", "days", "action"),
    [
        (Drift(), 0, 5, "retrain"),
        (Drift(), 1, 9, "wait"),
        (Drift(), 1, 10, "retrain"),
        (Drift(), 3, 39, "wait"),
        (Drift(), 99, 160, "retrain"),
        (NewLabels(1), 2, 19, "wait"),
        (NewLabels(1), 2, 20, "retrain"),
        (PerformanceDrop(0.1), 3, 5, "retrain"),
    ],
)
def test_each_version_that_is_kept_back_doubles_the_rest(
    trigger: Trigger, refused: int, days: int, action: str
) -> None:
    seen = facts(
        drift=drift("data"), refused_kinds=("data",), refused=refused, last_retrain_at=NOW - days * DAY,
        labels_since_training=10, performance=performance(0.9),
    )  # fmt: skip

    decision = decide_retrain(seen, replace(POLICY, trigger=trigger))

    assert decision.action == action
    assert ("kept back" in decision.reason) == (action == "wait")


def test_a_new_kind_of_drift_does_not_rest_longer() -> None:
    seen = facts(
        drift=drift("data", "concept"), refused_kinds=("data",), refused=3, last_retrain_at=NOW - 5 * DAY
    )  # fmt: skip

    assert decide_retrain(seen, replace(POLICY, trigger=Drift())).action == "retrain"
    assert decide_retrain(seen, replace(POLICY, trigger=Drift(("data",)))).action == "wait"


def test_a_schedule_does_not_rest() -> None:
    seen = facts(last_retrain_at=NOW - 4 * DAY)

    assert decide_retrain(seen, replace(POLICY, trigger=Schedule(3 * DAY))).action == "retrain"


def test_without_a_version_there_is_nothing_to_watch() -> None:
    decision = decide_retrain(facts(version=None), replace(POLICY, trigger=Always()))

    assert (decision.action, decision.reason) == (
        "wait", "no version answers yet, so there is nothing to watch",
    )  # fmt: skip


@pytest.mark.parametrize("trigger", [Always(), Schedule(DAY), PerformanceDrop(0.1), Never()])
def test_faulty_data_page_a_person_and_are_never_trained_on(trigger: Trigger) -> None:
    seen = facts(faults=(FAULT,), performance=performance(0.9))

    decision = decide_retrain(seen, replace(POLICY, trigger=trigger))

    assert decision.action == "alarm"
    assert "unit in fare: fares are 100 times" in decision.reason
    assert ("blocked" in decision.reason) == (trigger != Never())
    assert decision.evidence["faults"] == [vars(FAULT)]


def test_a_ranking_that_is_upside_down_stops_training() -> None:
    turned, bad = facts(performance=performance(1.5, auc=0.4)), facts(performance=performance(1.5, auc=0.48))

    assert decide_retrain(turned, POLICY).action == "alarm"
    assert decide_retrain(bad, POLICY).action == "retrain"


any_facts = st.builds(
    facts,
    trained_at=st.one_of(st.none(), st.integers(0, 200).map(lambda days: NOW - days * DAY)),
    last_retrain_at=st.one_of(st.none(), st.integers(0, 200).map(lambda days: NOW - days * DAY)),
    performance=st.one_of(st.none(), st.builds(performance, st.floats(0, 3), st.integers(0, 2000), st.floats(0, 1))),
    reference_log_loss=st.one_of(st.none(), st.floats(0, 2)),
    reference_rows=st.integers(0, 5000),
    drift=st.one_of(st.none(), st.builds(drift), st.just(drift("data")), st.just(drift("label", "concept"))),
    estimate=st.one_of(st.none(), st.builds(estimate, st.floats(0, 3), blind=st.sampled_from([None, "drift"]))),
    version=st.sampled_from(["3", "3", "3", None]),
    labels_since_training=st.integers(0, 5000),
    losses=st.lists(st.floats(0, 2), max_size=5).map(lambda values: losses(*values)),
    retrain_s=st.one_of(st.none(), st.floats(0, 1e4)),
    rows_per_day=st.floats(0, 1e5),
    faults=st.sampled_from([(), (), (), (FAULT,)]),
)
leaves: st.SearchStrategy[Trigger] = st.one_of(
    st.just(Never()), st.just(Always()), st.integers(1, 100).map(lambda days: Schedule(days * DAY)),
    st.integers(1, 5000).map(NewLabels), st.just(Drift()), st.just(Drift(("label",))),
    st.floats(0, 1).map(PerformanceDrop), st.floats(0, 1).map(EstimatedDrop), st.floats(0, 100).map(WorthIt),
)  # fmt: skip
triggers = st.recursive(
    leaves,
    lambda parts: st.lists(parts, min_size=1, max_size=3).flatmap(
        lambda some: st.sampled_from([AnyOf(tuple(some)), AllOf(tuple(some)), KOf(len(some), tuple(some))])
    ),
    max_leaves=6,
)


@given(any_facts, triggers)
def test_what_was_recorded_decides_alike(seen: MonitorFacts, trigger: Trigger) -> None:
    policy = replace(POLICY, trigger=trigger)
    decision = decide_retrain(seen, policy)

    recorded = orjson.loads(orjson.dumps(dict(decision.evidence)))

    assert recorded == decision.evidence
    assert redecide(recorded) == decision
    assert ("trigger" in recorded) == (decision.action == "retrain")


@given(any_facts, triggers)
def test_what_an_earlier_release_recorded_decides_alike(seen: MonitorFacts, trigger: Trigger) -> None:
    """Its curve had moments, rows and losses, and no version; decisions did not show it."""
    decision = decide_retrain(seen, replace(POLICY, trigger=trigger))
    recorded = orjson.loads(orjson.dumps(dict(decision.evidence)))
    del recorded["curve"]
    for point in recorded["facts"]["losses"]:
        for name in point.keys() - {"at", "rows", "log_loss"}:
            del point[name]

    again = redecide(recorded)

    assert (again.action, again.reason) == (decision.action, decision.reason)


@given(any_facts, triggers)
def test_only_a_trigger_that_asks_for_drift_depends_on_it(seen: MonitorFacts, trigger: Trigger) -> None:
    """So replays need not look for it under other policies."""
    if calls_upon(trigger, Drift):
        return
    policy = replace(POLICY, trigger=trigger)

    with_it, without = decide_retrain(seen, policy), decide_retrain(seen.with_(drift=None), policy)

    assert (with_it.action, with_it.reason) == (without.action, without.reason)


@given(any_facts, triggers)
def test_faults_only_ever_stop_a_retrain(seen: MonitorFacts, trigger: Trigger) -> None:
    policy = replace(POLICY, trigger=trigger)

    assert decide_retrain(replace(seen, faults=(FAULT,)), policy).action in ("alarm", "wait")


@given(any_facts, st.floats(0, 1))
def test_a_higher_loss_never_calls_a_retrain_off(seen: MonitorFacts, rise: float) -> None:
    if seen.performance is None or seen.performance.log_loss is None or decide_retrain(seen, POLICY).action == "wait":
        return
    loss = seen.performance.log_loss
    higher = Interval(value=loss.value + rise, low=loss.low + rise, high=loss.high + rise)
    worse = replace(seen, performance=replace(seen.performance, log_loss=higher))

    assert decide_retrain(worse, POLICY).action != "wait"


@given(any_facts, st.floats(0, 1), st.integers(0, 100))
def test_a_laxer_policy_never_retrains_more(seen: MonitorFacts, slack: float, days: int) -> None:
    laxer = replace(
        POLICY,
        performance_drop=POLICY.performance_drop + slack,
        retrain_every=POLICY.retrain_every + days * DAY,
        cooldown=POLICY.cooldown + days * DAY,
    )

    if decide_retrain(seen, POLICY).action == "wait":
        assert decide_retrain(seen, laxer).action == "wait"
