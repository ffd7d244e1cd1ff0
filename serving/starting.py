"""Whether a version that began as canary or shadow may answer everybody: a pure decision on what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.decision import Decision
from serving.standing import PASS, ROLLBACK
from serving.wanted import CANARY

PROMOTE, KEEP, WAIT = "promote", "keep", "wait"
REFUSE = "refuse"
Told = tuple[str, str, datetime]


@dataclass(frozen=True)
class Begun:
    """What a version began as.

    Args:
        role: ``canary`` or ``shadow``.
        period_s: seconds it has to be that at least.
        is_named: whether its alias still names it.
        min_requests: fewest requests a shadow must have been asked.
    """

    role: str
    period_s: float
    is_named: bool
    min_requests: int


@dataclass(frozen=True)
class Asked:
    """What a shadow answered.

    Args:
        requests: how many.
        rise: of its log-loss over the champion's on the same labelled requests, as (low, mean, high) in nats; None
            without labels.
    """

    requests: int
    rise: tuple[float, float, float] | None = None


def judge_start(begun: Begun, told: Sequence[Told], asked: Asked | None, now: datetime) -> Decision:
    """Promote, keep as challenger, or wait.

    Args:
        begun: how it began.
        told: what the deployer recorded of it since: (action, reason, when), newest first.
        asked: of a shadow, what it answered.
        now: by the ledger's clock.

    Example:
        >>> judge_start(Begun("canary", 600, False, 200), [], None, datetime(2019, 2, 2)).action
        'keep'
    """
    against = next((each for each in told if each[0] in (ROLLBACK, REFUSE)), None)
    if against is not None:
        return Decision(KEEP, f"as {begun.role} it was taken back: {against[1]}")
    if not begun.is_named:
        return Decision(KEEP, f"somebody took the alias {begun.role} from it")
    since = next((when for action, _, when in reversed(told) if action == begun.role), None)
    if since is None:
        return Decision(WAIT, f"the deployer has not made it {begun.role} yet")
    age_s = (now - since).total_seconds()
    if age_s < begun.period_s:
        return Decision(WAIT, f"{begun.role} for {age_s:.0f} s of {begun.period_s:.0f} s")
    known = {"age_s": round(age_s, 1)}
    if begun.role == CANARY:
        passed = next((each for each in told if each[0] == PASS), None)
        if passed is None:
            return Decision(WAIT, "its bake is not over")
        return Decision(PROMOTE, passed[1], known)
    return _judge_shadow(begun, asked or Asked(0), known)


def _judge_shadow(begun: Begun, asked: Asked, known: dict[str, float]) -> Decision:
    if asked.requests < begun.min_requests:
        return Decision(WAIT, f"it was asked {asked.requests} times, {begun.min_requests} are wanted")
    evidence = {**known, "requests": asked.requests, "rise": asked.rise and list(asked.rise)}
    if asked.rise is not None and asked.rise[0] > 0:
        worse = f"as shadow its log-loss was {asked.rise[1]:.4f} above the champion's, at least {asked.rise[0]:.4f}"
        return Decision(KEEP, worse, evidence)
    if asked.rise is None:
        said = "no label is due yet"
    else:
        said = (
            f"its log-loss was {asked.rise[1]:+.4f} ({asked.rise[0]:+.4f} to {asked.rise[2]:+.4f}) over the champion's"
        )
    return Decision(PROMOTE, f"as shadow it answered {asked.requests} requests; {said}", evidence)
