"""Judging a rehearsal: what was expected against what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stack.drill.answers import Seen

PASS, FAIL, SKIP = "pass", "fail", "skip"


@dataclass(frozen=True)
class Expectation:
    """What must hold.

    Args:
        within_s: seconds that recovery may take.
        errors: client calls that may fail; None: any number, for as long as `outage_s`.
        outage_s: seconds from the first failed call to the last.
    """

    within_s: float
    errors: int | None = 0
    outage_s: float = float("inf")

    def __str__(self) -> str:
        if self.errors is None:
            return f"over in {self.within_s:g} s, clients get errors for {self.outage_s:g} s at most"
        return f"over in {self.within_s:g} s, {self.errors or 'no'} client errors"


@dataclass(frozen=True)
class Outcome:
    """How a rehearsal went.

    Args:
        name: of the rehearsal.
        verdict: ``pass``, ``fail`` or ``skip``.
        did: what was done, a clause.
        expected: what must hold, a clause.
        recovery_s: seconds until it was over; None if it never was.
        seen: what clients saw, from beginning to end, the way back included.
        faults: what must not have been; the reason alone if it was skipped.
        facts: more that was measured.
    """

    name: str
    verdict: str
    did: str
    expected: str
    recovery_s: float | None = None
    seen: Seen = field(default_factory=Seen)
    faults: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def faults_of(expected: Expectation, recovery_s: float | None, seen: Seen) -> Iterator[str]:
    """What is not as expected, as clauses.

    Example:
        >>> list(faults_of(Expectation(within_s=2), 3.5, Seen()))
        ['it took 3.5 s, 2 s are allowed', 'no call was answered meanwhile']
    """
    if recovery_s is None:
        yield f"it was not over after {expected.within_s:g} s"
    elif recovery_s > expected.within_s:
        yield f"it took {recovery_s:.1f} s, {expected.within_s:g} s are allowed"
    failed = seen.errors.total()
    most = seen.errors.most_common(1)
    if expected.errors is not None and failed > expected.errors:
        yield f"{failed} of {failed + seen.answers.total()} client calls failed: {most[0][0]}"
    elif failed and seen.outage_s > expected.outage_s:
        yield f"clients got errors for {seen.outage_s:.1f} s, {expected.outage_s:g} s are allowed: {most[0][0]}"
    for version, times in sorted(seen.wrong.items()):
        yield f"version {version} answered {times} calls that were not its to answer"
    if not seen.answers:
        yield "no call was answered meanwhile"
