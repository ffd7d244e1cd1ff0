"""One policy on the past: look, decide, train, judge, promote, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from core.clock import Clock, ManualClock, from_us, to_us
from core.decision import Decision
from core.losses import row_log_loss
from core.policy import Policy
from core.use_case import UseCase
from monitoring.aftermath import ROLLBACK, VERDICTS, Promotion, compare_versions, judge_aftermath
from monitoring.facts import MonitorFacts
from monitoring.look import (
    LiveVersion,
    Measure,
    Measured,
    Past,
    Served,
    kinds_called,
    look,
    measure_window,
    window_start,
    worth_remembering,
)
from monitoring.replay.asked import Asked
from monitoring.triggers import RETRAIN, decide_retrain

Scores = npt.NDArray[np.float32]
Losses = npt.NDArray[np.float64]
_COSTS = 3  # newest retrains whose mean is what the next one is expected to cost


@dataclass(frozen=True)
class Trained:
    """A version that was trained on the past.

    Args:
        version: its name: the moment, and what it was trained on.
        as_of: the moment it was trained as of.
        log_loss: on its holdout, in nats.
        auc: likewise, in [0, 1]; None with one label only.
        scores: its answers to all that was asked, float32 (n,); NaN where it is never asked.
        holdout: positions of the rows it was measured on, the newest that were labelled then.
        compute_s: what it took.
        training_rows: positions of all rows it was made of, holdout included.
        make_live: what a look needs of it; made when it first answers.
    """

    version: str
    as_of: datetime
    log_loss: float
    auc: float | None
    scores: Scores
    holdout: npt.NDArray[np.int64]
    compute_s: float
    training_rows: npt.NDArray[np.int64]
    make_live: Callable[[], LiveVersion]


class Trainer(Protocol):
    """Trains as of a moment. Must be repeatable: the same moment gives the same versions, whoever asks."""

    def train(self, moment: datetime) -> tuple[Trained, ...]:
        """A version for each selection of the policy; none if there are too few labels."""
        ...


class Gate(Protocol):
    """Judges like the registry's gate. Must be pure."""

    def judge(self, challengers: tuple[Trained, ...], champion: Trained | None) -> tuple[Trained, Decision]:
        """The best of the challengers, and whether it is to be promoted."""
        ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of one look.

    Args:
        at: the moment of the look.
        decision: what was decided.
        aftermath: what became of the last promotion, as far as it was not settled before.
        verdict: the gate's, if anything was trained.
        champion: what answers from then on.
    """

    at: datetime
    decision: Decision
    aftermath: Decision | None
    verdict: Decision | None
    champion: str


@dataclass
class Course:
    """What a policy did, as long as it is on its way.

    Args:
        policy: its name.
        steps: the looks.
        scores: what was answered, float32 (n,); NaN before the first version.
        compute_s: of all trainings, the first included.
        retrains: how often training was called for, and done; the first training is not counted.
        promoted: how many of them went live.
        taken_back: of these, how many were taken back again.
        trained_at: the moments something was trained at.
    """

    policy: str
    scores: Scores
    steps: list[Step] = field(default_factory=list)
    compute_s: float = 0.0
    retrains: int = 0
    promoted: int = 0
    taken_back: int = 0
    trained_at: list[datetime] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which part of the past is simulated.

    Args:
        start: when the first version is trained.
        end: where it ends.
        every: event time between two looks.
    """

    start: datetime
    end: datetime
    every: timedelta

    @property
    def steps(self) -> int:
        """How many looks there are."""
        return max(0, -(-(self.end - self.start) // self.every) - 1)


class Windows:
    """Remembers what windows said, for policies that let the same versions answer the same questions."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, datetime, bytes], Measured] = {}

    def measuring(self, answered_by: bytes) -> Measure:
        """What measures a window, unless it was measured already.

        Args:
            answered_by: tells which version answered which of its questions.
        """

        def measure(
            use_case: UseCase, live: LiveVersion, served: Served, newest: Mapping[str, datetime], as_of: datetime
        ) -> Measured:
            key = (live.version, as_of, answered_by)
            if key not in self._known:
                self._known[key] = measure_window(use_case, live, served, newest, as_of)
            return self._known[key]

        return measure


class Simulation:
    """Runs one policy over the past.

    Args:
        asked: everything asked.
        name: of the policy.
        policy: the policy.
        trainer: trains.
        gate: judges.
        windows: what windows said that were measured before; None: each is measured here.
    """

    def __init__(
        self,
        asked: Asked,
        name: str,
        policy: Policy,
        trainer: Trainer,
        gate: Gate,
        windows: Windows | None = None,
    ) -> None:
        self._windows = Windows() if windows is None else windows
        self._asked = asked
        self._use_case: UseCase = replace(asked.use_case, policy=policy)
        self._policy = policy
        self._trainer, self._gate = trainer, gate
        self._course = Course(name, np.full(len(asked), np.nan, dtype=np.float32))
        self._versions = np.full(len(asked), "", dtype=object)
        self._looks: list[MonitorFacts] = []
        self._costs: list[float] = []
        self._refused: list[MonitorFacts] = []
        self._champion: Trained | None = None
        self._previous: Trained | None = None
        self._promoted_at: datetime | None = None
        self._last_retrain_at: datetime | None = None

    def run(self, span: Span, show: Callable[[int, int], None] = lambda done, steps: None) -> Course:
        """Train a first version at the span's start, and look after it until its end."""
        clock = ManualClock(span.start)
        self._retrain(clock, first=True)
        done = 0
        while True:
            since, until = clock.now(), min(clock.now() + span.every, span.end)
            self._answer(since, until)
            if until >= span.end:
                return self._course
            clock.advance(until - since)
            self._look(clock)
            done += 1
            show(done, span.steps)

    def _answer(self, since: datetime, until: datetime) -> None:
        cut = self._asked.between(since, until)
        if self._champion is not None:
            self._course.scores[cut] = self._champion.scores[cut]
            self._versions[cut] = self._champion.version

    def _look(self, clock: Clock) -> None:
        now = clock.now()
        cut = self._asked.between(window_start(self._use_case, now), now)
        served = Served(self._asked.predictions(cut, self._course.scores, self._versions), self._asked.labels(cut, now))
        live = self._champion.make_live() if self._champion else None
        answered_by = hashlib.sha256("\n".join(self._versions[cut]).encode()).digest()
        facts = look(
            self._use_case, live, served, self._past(now), as_of=now, measuring=self._windows.measuring(answered_by)
        )
        decision = decide_retrain(facts, self._policy)
        self._looks.append(facts)
        aftermath = self._look_back(now)
        verdict = self._retrain(clock) if decision.action == RETRAIN else None
        champion = self._champion.version if self._champion else ""
        self._course.steps.append(
            Step(at=now, decision=decision, aftermath=aftermath, verdict=verdict, champion=champion)
        )

    def _past(self, now: datetime) -> Past:
        trained_at = self._champion.as_of if self._champion else None
        since = max((when for when in (self._last_retrain_at, trained_at) if when is not None), default=None)
        known = self._asked.known_us
        new = 0 if since is None else int(((known > to_us(since)) & (known <= to_us(now))).sum())
        cost = float(np.mean(self._costs[-_COSTS:])) if self._costs else None
        kept = worth_remembering([each.as_of for each in self._looks], self._policy.monitor_window)
        looks = [self._looks[i] for i in kept]
        return Past(
            looks=looks, last_retrain_at=self._last_retrain_at, refused=len(self._refused),
            refused_kinds=kinds_called(self._refused), retrain_s=cost, labels_since_training=new,
        )  # fmt: skip

    def _retrain(self, clock: Clock, *, first: bool = False) -> Decision | None:
        made = self._trainer.train(clock.now())
        if not made:
            return None
        if not first:
            self._last_retrain_at = clock.now()
        chosen, verdict = self._gate.judge(made, self._champion)
        course, cost = self._course, sum(each.compute_s for each in made)
        self._costs.append(cost)
        course.compute_s += cost
        course.retrains += not first
        course.trained_at.append(clock.now())
        if verdict.action == "promote":
            self._refused.clear()
            course.promoted += not first
            self._previous, self._champion, self._promoted_at = self._champion, chosen, clock.now()
        elif not first:
            self._refused.append(self._looks[-1])
        return verdict

    def _look_back(self, now: datetime) -> Decision | None:
        """Take the last promotion back if it is shown worse than the version before, on the same live rows."""
        champion, previous, promoted_at = self._champion, self._previous, self._promoted_at
        if champion is None or previous is None or promoted_at is None:
            return None
        policy, horizon = self._policy.aftermath, self._use_case.label.horizon
        cut = self._asked.between(max(promoted_at, now - policy.period - horizon), now - horizon)
        rows = np.flatnonzero(self._versions[cut] == champion.version) + cut.start
        due = self._asked.due(rows, self._course.scores, now)
        labelled = rows[due["label"].notna().to_numpy()]
        facts = compare_versions(
            Promotion(champion.version, previous.version, promoted_at), due,
            previous.scores[labelled].astype(np.float64), as_of=now, policy=policy,
        )  # fmt: skip
        decision = judge_aftermath(facts, policy)
        if decision.action in VERDICTS:
            self._previous = None
        if decision.action == ROLLBACK:
            self._champion = previous
            self._course.taken_back += 1
        return decision


def losses_of(asked: Asked, scores: Scores) -> Losses:
    """Loss of every row in nats, float64 (n,); NaN where there is no score or no label."""
    found = np.full(len(asked), np.nan)
    there = (asked.label >= 0) & ~np.isnan(scores)
    found[there] = row_log_loss(asked.label[there].astype(np.float64), scores[there].astype(np.float64))
    return found


def step_of(asked: Asked, span: Span) -> npt.NDArray[np.int64]:
    """Which step each row was asked in, from 0; -1 before the first and after the last."""
    step = (asked.at_us - to_us(span.start)) // (span.every // timedelta(microseconds=1))
    outside = (asked.at_us < to_us(span.start)) | (asked.at_us >= to_us(span.end))
    return np.where(outside, -1, step)


def moments_of(span: Span) -> list[datetime]:
    """When each step begins: the start, and every look."""
    every_us = span.every // timedelta(microseconds=1)
    return [from_us(to_us(span.start) + i * every_us) for i in range(span.steps + 1)]
