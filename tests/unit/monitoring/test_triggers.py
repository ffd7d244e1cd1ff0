from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.use_case import Policy
from monitoring.performance import Performance
from monitoring.triggers import DriftFacts, MonitorFacts, decide_retrain

NOW = datetime(2019, 2, 10, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = Policy()


def performance(log_loss: float = 0.5, rows: int = 1000) -> Performance:
    return Performance(
        rows=rows, coverage=1.0, log_loss=log_loss, auc=0.7, brier=0.2, base_rate=0.5, from_at=NOW - DAY, to_at=NOW
    )


def facts(**changes: Any) -> MonitorFacts:
    return replace(
        MonitorFacts(
            as_of=NOW, version="3", trained_at=NOW - 20 * DAY, last_retrain_at=NOW - 20 * DAY, rows=1000,
            performance=performance(), reference_log_loss=0.5, drift=DriftFacts(rows=1000, share=0.0),
        ),
        **changes,
    )  # fmt: skip


def drift(share: float = 0.0, score: float | None = None, rows: int = 1000) -> DriftFacts:
    return DriftFacts(rows=rows, share=share, score_distance=score, drifted={"fare": 0.9} if share else {})


any_facts = st.builds(
    facts,
    trained_at=st.one_of(st.none(), st.integers(0, 200).map(lambda days: NOW - days * DAY)),
    last_retrain_at=st.one_of(st.none(), st.integers(0, 200).map(lambda days: NOW - days * DAY)),
    performance=st.one_of(st.none(), st.builds(performance, st.floats(0, 3), st.integers(0, 2000))),
    reference_log_loss=st.one_of(st.none(), st.floats(0, 2)),
    drift=st.one_of(
        st.none(), st.builds(drift, st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 2000))
    ),
    version=st.sampled_from(["3", "3", "3", None]),
)


@pytest.mark.parametrize(
    ("changes", "trigger", "said"),
    [
        ({"performance": performance(0.58)}, "performance", "16.0% above the reference 0.5000"),
        ({"drift": drift(0.3)}, "drift", "30% of the features drifted (fare 0.90)"),
        ({"drift": drift(score=0.25)}, "drift", "the scores drifted by 0.25"),
        ({"trained_at": NOW - 90 * DAY, "last_retrain_at": None}, "schedule", "90 days ago"),
        ({"performance": performance(0.58), "drift": drift(0.9)}, "performance", "log-loss"),
    ],
)
def test_calls_for_a_retrain(changes: dict[str, Any], trigger: str, said: str) -> None:
    decision = decide_retrain(facts(**changes), POLICY)

    assert (decision.action, decision.evidence["trigger"]) == ("retrain", trigger)
    assert said in decision.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "no trigger fired"),
        ({"version": None}, "no version answers yet"),
        ({"performance": performance(0.574)}, "no trigger fired"),
        ({"performance": performance(float("nan"), rows=1000)}, "no trigger fired"),
        ({"performance": performance(0.9), "last_retrain_at": NOW - 4 * DAY}, "cooldown"),
        ({"performance": performance(0.9, rows=499)}, "499 of them labelled"),
        ({"drift": drift(0.9, rows=499), "rows": 499}, "499 predictions"),
        ({"trained_at": NOW - 400 * DAY, "last_retrain_at": NOW - 89 * DAY}, "no trigger fired"),
    ],
)
def test_waits(changes: dict[str, Any], said: str) -> None:
    decision = decide_retrain(facts(**changes), POLICY)

    assert decision.action == "wait"
    assert said in decision.reason


def test_the_schedule_does_not_wait_for_the_cooldown() -> None:
    policy = replace(POLICY, retrain_every=3 * DAY)

    decision = decide_retrain(facts(last_retrain_at=NOW - 4 * DAY, trained_at=NOW - 4 * DAY), policy)

    assert decision.evidence["trigger"] == "schedule"


@given(any_facts)
def test_is_repeatable_and_its_evidence_is_json(seen: MonitorFacts) -> None:
    decision = decide_retrain(seen, POLICY)

    assert decision == decide_retrain(seen, POLICY)
    assert orjson.loads(orjson.dumps(decision.evidence)) == decision.evidence
    assert ("trigger" in decision.evidence) == (decision.action == "retrain")


@given(any_facts, st.floats(0, 1))
def test_a_higher_loss_never_calls_a_retrain_off(seen: MonitorFacts, rise: float) -> None:
    if seen.performance is None or decide_retrain(seen, POLICY).action == "wait":
        return
    worse = replace(seen, performance=replace(seen.performance, log_loss=seen.performance.log_loss + rise))

    assert decide_retrain(worse, POLICY).action == "retrain"


@given(any_facts, st.floats(0, 1), st.floats(0, 1))
def test_more_drift_never_calls_a_retrain_off(seen: MonitorFacts, share: float, score: float) -> None:
    if seen.drift is None or decide_retrain(seen, POLICY).action == "wait":
        return
    more = replace(
        seen.drift,
        share=max(seen.drift.share, share),
        score_distance=max(seen.drift.score_distance or 0, score),
        drifted=seen.drift.drifted or {"fare": 0.9},
    )

    assert decide_retrain(replace(seen, drift=more), POLICY).action == "retrain"


@given(any_facts, st.floats(0, 1), st.integers(0, 100))
def test_a_laxer_policy_never_retrains_more(seen: MonitorFacts, slack: float, days: int) -> None:
    laxer = replace(
        POLICY,
        performance_drop=POLICY.performance_drop + slack,
        drift_share=POLICY.drift_share + slack,
        drift_threshold=POLICY.drift_threshold + slack,
        retrain_every=POLICY.retrain_every + days * DAY,
        cooldown=POLICY.cooldown + days * DAY,
    )

    if decide_retrain(seen, POLICY).action == "wait":
        assert decide_retrain(seen, laxer).action == "wait"
