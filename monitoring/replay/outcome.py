"""What policies came to on the same past: quality against cost, regret, and which one to take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import NotEnoughData
from core.policy import Policy
from core.policy_json import policy_as_json
from monitoring.replay.asked import Asked
from monitoring.replay.course import Course, Losses, Span, losses_of, moments_of, step_of
from monitoring.replay.policies import ALWAYS, ORACLE
from monitoring.replay.versions import Trained
from monitoring.triggers import ALARM

TOLERANCE = 0.02
"""How much worse than `always` a policy may be, relatively, to be recommended for its lower cost."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one policy came to.

    Args:
        policy: its name.
        log_loss: mean over all labelled answers, in nats.
        retrains: after the first training.
        promoted: of these, how many went live.
        refused: of these, how many the gate kept back.
        taken_back: of those promoted, how many were taken back when their labels came.
        alarms: looks at which the data were at fault.
        compute_s: of all trainings, the first included.
        regret: log-loss above the oracle's, in nats.
        triggers: how often each trigger called first.
        by_step: log-loss of each step, in nats; None without labelled answers.
        retrained_at: when.
        promoted_at: when.
    """

    policy: str
    log_loss: float
    retrains: int
    promoted: int
    refused: int
    taken_back: int
    alarms: int
    compute_s: float
    regret: float
    triggers: Mapping[str, int]
    by_step: tuple[float | None, ...]
    retrained_at: tuple[datetime, ...]
    promoted_at: tuple[datetime, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What all policies came to.

    Args:
        use_case: whose past.
        span: which part of it.
        rows: labelled answers that count.
        outcomes: in the order they were asked for.
        at: when each step begins.
        recommended: name of the policy to take; None without `always` among them.
        why: one sentence.
        policies: what each is, by name.
        wall_s: how long it all took.
    """

    use_case: str
    span: Span
    rows: int
    outcomes: tuple[Outcome, ...]
    at: tuple[datetime, ...]
    recommended: str | None
    why: str
    policies: Mapping[str, Policy]
    wall_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON."""
        span = {"start": self.span.start, "end": self.span.end, "every_s": self.span.every.total_seconds()}
        whole = {
            "use_case": self.use_case, "span": span, "rows": self.rows, "at": self.at,
            "outcomes": [asdict(each) for each in self.outcomes], "recommended": self.recommended, "why": self.why,
            "policies": {name: policy_as_json(policy) for name, policy in self.policies.items()},
            "wall_s": self.wall_s,
        }  # fmt: skip
        found: dict[str, Any] = json.loads(json.dumps(whole, default=lambda moment: moment.isoformat()))
        return found


def compare(
    asked: Asked, courses: Sequence[Course], trained: Iterable[Trained], policies: Mapping[str, Policy], span: Span,
    *, with_oracle: bool = True, wall_s: float = 0.0,
) -> Comparison:  # fmt: skip
    """Put side by side what policies did.

    The oracle knows how things turn out: at each step it answers with that version, of all that any policy had trained
    by then, that will do best. Nothing can do better with these versions, so what is above it is regret.

    Args:
        asked: everything asked.
        courses: what each policy did.
        trained: every version there is.
        policies: by name.
        span: what was simulated.
        with_oracle: whether it is to be among the outcomes.
        wall_s: how long it took.

    Raises:
        NotEnoughData: if no version could be trained at the start.
    """
    steps, moments = step_of(asked, span), moments_of(span)
    versions = sorted(trained, key=lambda each: each.as_of)
    if not versions or any(np.isnan(course.scores[steps >= 0]).any() for course in courses):
        policy = asked.use_case.policy
        known = len(asked.training_rows(span.start - policy.training_window, span.start))
        raise NotEnoughData(asked.use_case.name, known, policy.min_rows, f"rows labelled by {span.start:%Y-%m-%d}")
    best = _oracle(asked, versions, steps, moments)
    counts = (steps >= 0) & (asked.label >= 0)
    outcomes = [
        _outcome(course, losses_of(asked, course.scores), best.losses, steps, len(moments)) for course in courses
    ]
    if with_oracle:
        outcomes.append(best.outcome(steps, moments))
    recommended, why = recommend(outcomes)
    return Comparison(
        use_case=asked.use_case.name, span=span, rows=int(counts.sum()), outcomes=tuple(outcomes), at=tuple(moments),
        recommended=recommended, why=why, policies=policies, wall_s=wall_s,
    )  # fmt: skip


def recommend(outcomes: Sequence[Outcome], tolerance: float = TOLERANCE) -> tuple[str | None, str]:
    """The cheapest policy whose log-loss is within `tolerance` of the best one's; of equally cheap ones the best.

    The best is `always` as a rule; where broken data kept it from training, to be as good as `always` says little.

    Returns:
        Its name, None if there is no `always` to compare with; and a sentence.
    """
    always = next((each for each in outcomes if each.policy == ALWAYS), None)
    if always is None:
        return None, "without the policy always there is nothing to measure the others by"
    real = [each for each in outcomes if each.policy != ORACLE]
    best = min((always, *real), key=lambda each: each.log_loss)
    able = [each for each in real if each.log_loss <= best.log_loss * (1 + tolerance)]
    chosen = min(able, key=lambda each: (each.retrains, each.compute_s, each.log_loss))
    saved = 1 - chosen.retrains / always.retrains if always.retrains else 0.0
    return chosen.policy, (
        f"{chosen.policy} is the cheapest within {tolerance:.0%} of the best, {best.policy}: log-loss "
        f"{chosen.log_loss:.4f}, always {always.log_loss:.4f} ({chosen.log_loss / always.log_loss - 1:+.2%}); retrains "
        f"{chosen.retrains}, always {always.retrains} ({saved:.0%} fewer)"
    )


def _outcome(course: Course, losses: Losses, best: Losses, steps: npt.NDArray[np.int64], n: int) -> Outcome:
    counts = (steps >= 0) & ~np.isnan(losses)
    mean = float(losses[counts].mean())
    retrained = [step for step in course.steps if step.verdict is not None]
    promoted = [step.at for step in retrained if step.verdict and step.verdict.action == "promote"]
    triggers = Counter(str(step.decision.evidence["trigger"]) for step in retrained)
    return Outcome(
        policy=course.policy, log_loss=mean, retrains=course.retrains, promoted=course.promoted,
        refused=course.retrains - course.promoted, taken_back=course.taken_back,
        alarms=sum(step.decision.action == ALARM for step in course.steps), compute_s=course.compute_s,
        regret=mean - float(best[counts].mean()), triggers=dict(triggers), by_step=_by_step(losses, steps, n),
        retrained_at=tuple(step.at for step in retrained), promoted_at=tuple(promoted),
    )  # fmt: skip


def _by_step(losses: Losses, steps: npt.NDArray[np.int64], n: int) -> tuple[float | None, ...]:
    counts = (steps >= 0) & ~np.isnan(losses)
    rows = np.bincount(steps[counts], minlength=n)
    sums = np.bincount(steps[counts], weights=losses[counts], minlength=n)
    return tuple(float(total / k) if k else None for total, k in zip(sums, rows, strict=True))


@dataclass(frozen=True)
class _Oracle:
    losses: Losses
    used: tuple[Trained, ...]

    def outcome(self, steps: npt.NDArray[np.int64], moments: Sequence[datetime]) -> Outcome:
        counts = (steps >= 0) & ~np.isnan(self.losses)
        later = list(dict.fromkeys(each.version for each in self.used))[1:]
        made = {each.version: each for each in self.used}
        switched = tuple(
            moment for moment, a, b in zip(moments[1:], self.used[:-1], self.used[1:], strict=True) if a is not b
        )
        return Outcome(
            policy=ORACLE, log_loss=float(self.losses[counts].mean()), retrains=len(later), promoted=len(later),
            refused=0, taken_back=0, alarms=0, compute_s=sum(each.compute_s for each in made.values()), regret=0.0,
            triggers={}, by_step=_by_step(self.losses, steps, len(moments)), promoted_at=switched,
            retrained_at=tuple(made[version].as_of for version in later),
        )  # fmt: skip


def _oracle(
    asked: Asked, versions: Sequence[Trained], steps: npt.NDArray[np.int64], moments: Sequence[datetime]
) -> _Oracle:
    """Of every step the best version trained by then, in hindsight."""
    n = len(moments)
    inside = (steps >= 0) & (asked.label >= 0)
    sums = np.full((len(versions), n), np.inf)
    for i, version in enumerate(versions):
        losses = losses_of(asked, version.scores)
        sums[i] = np.bincount(steps[inside], weights=losses[inside], minlength=n)
        sums[i, [version.as_of > moment for moment in moments]] = np.inf
    sums[np.isnan(sums)] = np.inf
    chosen = sums.argmin(axis=0)
    found = np.full(len(asked), np.nan)
    for i in np.unique(chosen):
        rows = np.isin(steps, np.flatnonzero(chosen == i)) & inside
        found[rows] = losses_of(asked, versions[i].scores)[rows]
    return _Oracle(found, tuple(versions[i] for i in chosen))
