"""Judging a version that answers clients for the first time: a pure decision on what gateways counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from scipy.special import bdtrc  # type: ignore[import-untyped]

from core.decision import Decision
from core.serving_policy import Bake
from serving.gateway_report import LATENCY_BOUNDS_S, Tally

WAIT, TAKE_BACK, PASS = "wait", "rollback", "pass"
_P99 = 0.99
# It is asked every second of a bake, so that chance must not decide even then.
_CHANCE = 0.001


def judge_bake(bake: Bake, candidate: Tally, baseline: Tally | None, age: timedelta) -> Decision:
    """Whether a version is to be taken back, has passed, or is to be watched on.

    It is taken back if more of its requests failed, or were slower than its 99th percentile may be, than would be by
    chance once in a thousand times if it were just as allowed (the binomial test).

    Args:
        bake: what is allowed.
        candidate: what was counted of it since it got its share.
        baseline: what was counted of the version it is compared with; None if nothing is known: no error is then
            expected, and no latency above the floor.
        age: since when it has its share.

    Returns:
        ``rollback``, ``pass`` or ``wait``, with the numbers.

    Example:
        >>> bad = Tally(requests=200, errors=20)
        >>> judge_bake(Bake(), bad, Tally(requests=2000), timedelta(minutes=1)).reason
        '10.0 % of 200 requests failed, 0.0 % of those of the other version; 1.0 % more are allowed'
    """
    evidence = _evidence(bake, candidate, baseline, age)
    if candidate.requests < bake.min_requests:
        few = f"{candidate.requests} requests, judged from {bake.min_requests} on"
        return Decision(PASS if age >= bake.period else WAIT, f"nothing to be said against it: {few}", evidence)
    failed, expected = evidence["error_ratio"], evidence["baseline_error_ratio"] or 0.0
    if _too_many(candidate.errors, candidate.requests, expected + bake.max_error_ratio):
        other = f", {expected:.1%} of those of the other version" if baseline is not None else ""
        reason = (
            f"{failed:.1%} of {candidate.requests} requests failed{other}; {bake.max_error_ratio:.1%} more are allowed"
        )
        return Decision(TAKE_BACK, reason.replace("%", " %"), evidence)
    slow, allowed = evidence["p99_s"], evidence["p99_allowed_s"]
    if _too_many(slower(candidate, allowed), sum(candidate.latency), 1 - _P99):
        reason = f"its 99th percentile of latency is {slow * 1000:.0f} ms; {allowed * 1000:.0f} ms are allowed"
        return Decision(TAKE_BACK, f"{reason}, on {candidate.requests} requests", evidence)
    fine = f"{failed:.1%} of {candidate.requests} requests failed".replace("%", " %")
    late = f"{slower(candidate, allowed)} took longer than {allowed * 1000:.0f} ms"
    return Decision(PASS if age >= bake.period else WAIT, f"{fine}, {late}", evidence)


def _too_many(found: int, of: int, allowed: float) -> bool:
    return found > 0 and float(bdtrc(found - 1, of, min(allowed, 1.0))) < _CHANCE


def slower(tally: Tally, than_s: float) -> int:
    """How many answers took longer than some seconds, at least; latencies spread evenly within a bucket.

    Example:
        >>> tally = Tally()
        >>> tally.answered(0.03), tally.answered(3.0)
        (None, None)
        >>> slower(tally, 0.05)
        1
    """
    found = 0.0
    for low, high, n in zip((0.0, *LATENCY_BOUNDS_S), (*LATENCY_BOUNDS_S, math.inf), tally.latency, strict=True):
        found += n * (1.0 if than_s <= low else max(0.0, (high - than_s) / (high - low)) if high < math.inf else 0.0)
    return int(found)


def quantile_s(tally: Tally, q: float) -> float | None:
    """The q-quantile of a tally's latencies, in seconds; None if nothing was answered.

    Within a bucket latencies are taken to be spread evenly; of the last one nothing but its lower bound is known.
    Source: Prometheus, ``histogram_quantile``.

    Example:
        >>> tally = Tally()
        >>> for _ in range(100):
        ...     tally.answered(0.03)
        >>> round(quantile_s(tally, 0.5), 3)
        0.035
    """
    answered = sum(tally.latency)
    if not answered:
        return None
    rank, below = q * answered, 0
    for i, n in enumerate(tally.latency[:-1]):
        if n and below + n >= rank:
            low = LATENCY_BOUNDS_S[i - 1] if i else 0.0
            return low + (LATENCY_BOUNDS_S[i] - low) * (rank - below) / n
        below += n
    return LATENCY_BOUNDS_S[-1]


def _evidence(bake: Bake, candidate: Tally, baseline: Tally | None, age: timedelta) -> dict[str, Any]:
    usual = quantile_s(baseline, _P99) if baseline is not None else None
    floor_s = bake.latency_floor.total_seconds()
    facts: Mapping[str, Any] = {
        "age_s": age.total_seconds(),
        "requests": candidate.requests,
        "errors": candidate.errors,
        "error_ratio": _ratio(candidate),
        "p99_s": quantile_s(candidate, _P99),
        "p99_allowed_s": floor_s if usual is None else max(floor_s, usual * bake.max_latency_ratio),
        "baseline_requests": baseline.requests if baseline is not None else None,
        "baseline_errors": baseline.errors if baseline is not None else None,
        "baseline_error_ratio": _ratio(baseline) if baseline is not None else None,
        "baseline_p99_s": usual,
        "max_error_ratio": bake.max_error_ratio,
        "max_latency_ratio": bake.max_latency_ratio,
        "min_requests": bake.min_requests,
    }
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in facts.items()}


def _ratio(tally: Tally) -> float:
    return tally.errors / tally.requests if tally.requests else 0.0
