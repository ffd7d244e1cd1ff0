"""Quantiles out of histograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serving.counts import NOTHING, plus
from serving.gateway_report import LATENCY_BOUNDS_S, Report, Tally


@dataclass(frozen=True)
class Quantiles:
    """How long it took.

    Args:
        calls: how many.
        p50_s: half of them took at most so long, in seconds; None without any.
        p99_s: 99 of 100 did.
        is_beyond: whether the latter took longer than the largest bound that is told apart, which stands for it.
    """

    calls: int
    p50_s: float | None
    p99_s: float | None
    is_beyond: bool = False


def quantiles(bounds: Sequence[float], counts: Sequence[float]) -> Quantiles:
    """Quantiles of a histogram, evenly spread within each bucket.

    Args:
        bounds: upper bounds of the buckets in seconds, rising.
        counts: calls in each, and in the last one those beyond all bounds.

    Example:
        >>> quantiles((0.1, 0.2), (50, 50, 0)).p50_s
        0.1
    """
    calls = sum(counts)
    if not calls:
        return Quantiles(0, None, None)
    p99 = _quantile(bounds, counts, 0.99)
    return Quantiles(int(calls), _quantile(bounds, counts, 0.5) or bounds[-1], p99 or bounds[-1], p99 is None)


def by_version(use_case: str, reports: Iterable[Report]) -> Mapping[str, Tally]:
    """What all gateways counted of each version of a use case."""
    found: dict[str, Tally] = {}
    for report in reports:
        for key, tally in report.tallies.items():
            name, _, version = key.rpartition("/")
            if name == use_case and len(tally.latency) == len(LATENCY_BOUNDS_S) + 1:  # else of another release
                found[version] = plus(found.get(version, NOTHING), tally)
    return found


def of_tally(tally: Tally) -> Quantiles:
    """How long a version took to answer."""
    return quantiles(LATENCY_BOUNDS_S, tally.latency)


def of_buckets(buckets: Sequence[tuple[float, float]]) -> Quantiles:
    """How long it took, by a Prometheus histogram: rising upper bounds, the last infinite, and calls up to each."""
    counts = [count - before for (_, count), before in zip(buckets, [0.0, *(c for _, c in buckets)], strict=False)]
    return quantiles([bound for bound, _ in buckets[:-1]], counts)


def _quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    wanted, below, lower = share * sum(counts), 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return None
