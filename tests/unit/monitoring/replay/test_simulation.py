"""One policy on the past, with versions that are made up: what is promoted, taken back and paid for."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.decision import Decision
from core.policy import AftermathPolicy, Policy
from core.triggers import Always, Never, PerformanceDrop, Schedule
from features.tables import TableAccess
from monitoring.live import LiveVersion
from monitoring.replay.asked import Asked, ask_all
from monitoring.replay.course import Course, Span, moments_of
from monitoring.replay.outcome import compare, recommend
from monitoring.replay.policies import NAMES, policies_named
from monitoring.replay.simulation import Simulation
from monitoring.replay.versions import Trained
from tests.replayed_use_case import A_DAY, DAY, POLICY, START, history, replayed

PAST = history()
USE_CASE = replayed(PAST).use_case
SPAN = Span(start=START + 10 * DAY, end=START + 60 * DAY, every=5 * DAY)
TURN = 30


@pytest.fixture(scope="module")
def asked() -> Asked:
    return ask_all(USE_CASE, PAST, TableAccess(Path(), {}), matrix=np.zeros((60 * A_DAY, 9), np.float32))


class Taught:
    """Versions that know the relation as it was when they were trained, and one that knows little of it."""

    def __init__(self, asked: Asked, *, worst_at: datetime | None = None, needed: int = 300) -> None:
        self.asked, self.worst_at, self.needed, self.calls = asked, worst_at, needed, 0

    def train(self, moment: datetime) -> tuple[Trained, ...]:
        self.calls += 1
        rows = self.asked.training_rows(moment - POLICY.training_window, moment)
        if len(rows) < self.needed:
            return ()
        amount = self.asked.rows["amount"].to_numpy() + (moment > START + (TURN + 2) * DAY)
        scores = 1 / (1 + np.exp(-2.5 * np.where(moment == self.worst_at, 0.2, 1.0) * amount))
        holdout = rows[-150:]
        reference = pd.DataFrame({"score": scores[holdout], "label": self.asked.label[holdout]})
        name = f"{moment:%Y-%m-%d}"
        return (
            Trained(
                version=name, as_of=moment, log_loss=0.35, auc=0.9, scores=scores.astype(np.float32), holdout=holdout,
                compute_s=2.0, training_rows=rows,
                make_live=lambda: LiveVersion(name, moment, 0.35, reference, len(holdout)),
            ),
        )  # fmt: skip


class Says:
    """A gate that always says the same."""

    def __init__(self, action: str = "promote") -> None:
        self.action = action

    def judge(self, challengers: tuple[Trained, ...], champion: Trained | None) -> tuple[Trained, Decision]:
        return challengers[0], Decision("promote" if champion is None else self.action, "as told")


def course(asked: Asked, policy: Policy, **more: object) -> Course:
    trainer = more.get("trainer") or Taught(asked)
    return Simulation(asked, "p", policy, trainer, more.get("gate") or Says()).run(SPAN)  # type: ignore[arg-type]


def test_never_keeps_the_first_version(asked: Asked) -> None:
    found = course(asked, replace(POLICY, trigger=Never()))

    assert (found.retrains, found.promoted, found.compute_s) == (0, 0, 2.0)
    assert {step.champion for step in found.steps} == {"2020-01-11"}
    assert len(found.steps) == SPAN.steps == 9


def test_always_retrains_at_every_look(asked: Asked) -> None:
    found = course(asked, replace(POLICY, trigger=Always()))

    assert found.retrains == found.promoted == 9
    assert found.compute_s == 20.0
    assert found.trained_at == moments_of(SPAN)


def test_what_is_asked_is_answered_by_the_champion_of_the_time(asked: Asked) -> None:
    found = course(asked, replace(POLICY, trigger=Schedule(20 * DAY)))

    assert np.isnan(found.scores[asked.between(START, SPAN.start)]).all()
    assert not np.isnan(found.scores[asked.between(SPAN.start, SPAN.end)]).any()
    assert [step.at for step in found.steps if step.verdict] == [START + 30 * DAY, START + 50 * DAY]


def test_a_drop_calls_for_one_retrain_after_the_turn(asked: Asked) -> None:
    policy = replace(POLICY, trigger=PerformanceDrop(0.2))

    found = course(asked, policy)

    assert [step.at for step in found.steps if step.verdict] == [START + (TURN + 5) * DAY]
    (retrained,) = [step for step in found.steps if step.verdict]
    assert retrained.decision.evidence["trigger"] == "performance"


def test_what_the_gate_keeps_back_is_paid_but_does_not_answer(asked: Asked) -> None:
    found = course(asked, replace(POLICY, trigger=Always()), gate=Says("keep"))

    assert (found.retrains, found.promoted) == (9, 0)
    assert found.compute_s == 20.0
    assert {step.champion for step in found.steps} == {"2020-01-11"}


def test_a_promotion_that_turns_out_worse_is_taken_back(asked: Asked) -> None:
    bad = START + 20 * DAY
    policy = replace(
        POLICY, trigger=Schedule(10 * DAY), aftermath=AftermathPolicy(min_rows=100, period=20 * DAY, margin=0.01)
    )

    found = course(asked, policy, trainer=Taught(asked, worst_at=bad))

    by_day = {(step.at - START).days: step for step in found.steps}
    assert by_day[20].champion == "2020-01-21"
    aftermath = by_day[25].aftermath
    assert aftermath is not None
    assert aftermath.action == "rollback"
    assert by_day[25].champion == "2020-01-11"
    assert found.taken_back == 1


def test_without_labels_enough_nothing_is_trained(asked: Asked) -> None:
    found = course(asked, replace(POLICY, trigger=Always()), trainer=Taught(asked, needed=10**9))

    assert (found.retrains, found.compute_s) == (0, 0.0)
    assert {step.decision.reason for step in found.steps} == {
        "no version answers yet, so there is nothing to watch"
    }  # fmt: skip


def test_policies_are_compared_with_the_best_there_could_have_been(asked: Asked) -> None:
    trainer = Taught(asked)
    policies = policies_named(("never", "always", "oracle"), USE_CASE.policy)
    courses = [
        Simulation(asked, name, policy, trainer, Says()).run(SPAN) for name, policy in policies.items()
    ]  # fmt: skip
    versions = [each for moment in moments_of(SPAN) for each in trainer.train(moment)]

    found = compare(asked, courses, versions, policies, SPAN)

    by_name = {outcome.policy: outcome for outcome in found.outcomes}
    assert list(by_name) == ["never", "always", "oracle"]
    assert by_name["oracle"].log_loss <= by_name["always"].log_loss < by_name["never"].log_loss
    assert all(outcome.regret >= 0 for outcome in found.outcomes)
    assert by_name["never"].regret == pytest.approx(by_name["never"].log_loss - by_name["oracle"].log_loss)
    assert by_name["oracle"].retrains == 1
    assert found.rows == len(asked) - asked.between(START, SPAN.start).stop
    assert found.recommended == "always"
    assert found.as_json()["outcomes"][1]["triggers"] == {"always": 9}


def test_the_cheapest_of_those_that_are_good_enough_is_recommended(asked: Asked) -> None:
    policies = policies_named(("never", "monthly", "always"), USE_CASE.policy)
    trainer = Taught(asked)
    courses = [Simulation(asked, name, policy, trainer, Says()).run(SPAN) for name, policy in policies.items()]
    outcomes = compare(asked, courses, trainer.train(SPAN.start), policies, SPAN, with_oracle=False).outcomes
    never, monthly, always = outcomes
    near = replace(always, policy="near", retrains=2, log_loss=always.log_loss * 1.019)
    far = replace(always, policy="far", retrains=1, log_loss=always.log_loss * 1.021)

    assert recommend([never, far, near, always])[0] == "near"
    assert recommend([replace(monthly, retrains=0, log_loss=always.log_loss), near, always])[0] == "monthly"
    better = replace(always, policy="better", retrains=3, log_loss=always.log_loss * 0.9)
    assert recommend([near, better, always])[0] == "better", (
        "what kept always from training kept it from being the best"
    )
    assert recommend([never, far])[0] is None


def test_every_name_is_a_policy() -> None:
    found = policies_named((*NAMES, "estimate", "labels", "own"), POLICY)

    assert set(found) == {*NAMES, "estimate", "labels", "own"} - {"oracle"}
    assert found["own"] == POLICY
    assert found["weekly"].trigger == Schedule(timedelta(days=7))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(Exception, match="no policy 'sometimes' to replay"):
        policies_named(("sometimes",), POLICY)
