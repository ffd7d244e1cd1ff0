"""What clients were answered while something was done to the stack, and by whom they should have been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """One call of a client.

    Args:
        asked_s: when it was sent, in seconds of the monotonic clock.
        answered_s: when its answer was there, or what came in its place.
        status: HTTP status; 0 if there was no answer.
        version: who answered; None if nobody did.
        problem: what was wrong, as a clause; empty if nothing was.
    """

    asked_s: float
    answered_s: float
    status: int
    version: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class Phase:
    """From a moment on, calls may be answered by these versions.

    Args:
        since_s: the moment, in seconds of the monotonic clock.
        versions: those that may answer.
    """

    since_s: float
    versions: frozenset[str]


@dataclass(frozen=True)
class Seen:
    """What clients saw, summed up.

    Args:
        answers: how many calls each version answered.
        errors: how many calls ended with each problem.
        wrong: how many calls were answered by each version that may not have answered them.
        outage_s: seconds from the first error to the last; 0 with one error or none.
        slowest_s: the longest call.
    """

    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    outage_s: float = 0.0
    slowest_s: float = 0.0


def summed_up(answers: Iterable[Answer], phases: Sequence[Phase]) -> Seen:
    """Count what came back.

    A call that was under way when one phase followed another may be answered as either allows.

    Args:
        answers: of all clients, in any order.
        phases: in order of time; before the first any version may answer.

    Example:
        >>> phases = [Phase(0, frozenset("1")), Phase(10, frozenset("2"))]
        >>> summed_up([Answer(9, 11, 200, "1"), Answer(11, 12, 200, "1")], phases).wrong
        Counter({'1': 1})
    """
    seen, failed = Seen(), []
    slowest_s = 0.0
    for answer in answers:
        slowest_s = max(slowest_s, answer.answered_s - answer.asked_s)
        if answer.problem or answer.version is None:
            seen.errors[answer.problem or f"status {answer.status}"] += 1
            failed.append(answer.answered_s)
            continue
        seen.answers[answer.version] += 1
        if not _may(answer, answer.version, phases):
            seen.wrong[answer.version] += 1
    outage_s = max(failed) - min(failed) if failed else 0.0
    return Seen(seen.answers, seen.errors, seen.wrong, outage_s, slowest_s)


def first_from(answers: Iterable[Answer], version: str, since_s: float) -> float | None:
    """Seconds from a moment to the first answer of a version; None if it gave none."""
    found = [a.answered_s - since_s for a in answers if a.version == version and a.answered_s >= since_s]
    return min(found, default=None)


def _may(answer: Answer, version: str, phases: Sequence[Phase]) -> bool:
    ends = [*(phase.since_s for phase in phases[1:]), float("inf")]
    under_way = [
        phase.versions
        for phase, end_s in zip(phases, ends, strict=True)
        if phase.since_s <= answer.answered_s and answer.asked_s <= end_s
    ]
    return not phases or answer.asked_s < phases[0].since_s or any(version in versions for versions in under_way)
