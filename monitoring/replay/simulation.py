"""One policy on the past: look, decide, train, judge, promote, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np

from core.clock import Clock, ManualClock, to_us
from core.decision import Decision
from core.policy import Policy
from core.triggers import Drift, calls_upon
from core.use_case import UseCase
from monitoring.aftermath import ROLLBACK, VERDICTS, Promotion, compare_versions, judge_aftermath
from monitoring.facts import MonitorFacts
from monitoring.live import LiveVersion, Past, Served, window_start, worth_remembering
from monitoring.look import kinds_called, look
from monitoring.measured import Measure, Measured, measure_window
from monitoring.replay.asked import Asked
from monitoring.replay.course import Course, Span, Step
from monitoring.replay.versions import Gate, Trained, Trainer
from monitoring.triggers import RETRAIN, decide_retrain

_COSTS = 3  # newest retrains whose mean is what the next one is expected to cost


class Windows:
    """Remembers what windows said, for policies that let the same versions answer the same questions."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, datetime, bytes, bool], Measured] = {}

    def measuring(self, answered_by: bytes, *, with_drift: bool) -> Measure:
        """What measures a window, unless it was measured already.

        Args:
            answered_by: tells which version answered which of its questions.
            with_drift: whether drift is looked for.
        """

        def measure(
            use_case: UseCase, live: LiveVersion, served: Served, newest: Mapping[str, datetime], as_of: datetime
        ) -> Measured:
            key = (live.version, as_of, answered_by)
            if (*key, with_drift) not in self._known:
                fuller = self._known.get((*key, True))
                self._known[*key, with_drift] = (
                    measure_window(use_case, live, served, newest, as_of, with_drift=with_drift)
                    if fuller is None
                    else replace(fuller, drift=None)
                )
            return self._known[*key, with_drift]

        return measure


class Simulation:
    """Runs one policy over the past.

    Drift is looked for only where the policy asks for it: no other trigger's answer depends on it.

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
        since = window_start(self._use_case, now)
        cut, served = self._asked.between(since, now), self._served(since, now, now)
        live = self._champion.make_live() if self._champion else None
        answered_by = hashlib.sha256("\n".join(self._versions[cut]).encode()).digest()
        measuring = self._windows.measuring(answered_by, with_drift=calls_upon(self._policy.calls_for, Drift))
        facts = look(self._use_case, live, served, self._past(now), as_of=now, measuring=measuring)
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
            newest_event_at=self._asked.newest_events(now),
            earlier=lambda since, until: self._served(since, until, now),
        )  # fmt: skip

    def _served(self, since: datetime, until: datetime, known_by: datetime) -> Served:
        """What was answered to the questions of [since, until), and the labels known since then."""
        cut = self._asked.between(since, until)
        answered = self._asked.predictions(cut, self._course.scores, self._versions)
        return Served(answered, self._asked.labels(since, known_by))

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
