"""Faults of labels: missing, repeated, all alike, earlier than their question, or flipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.facts import Fault
from monitoring.label_counts import LabelCounts, LabelDay
from monitoring.profile import LABEL, RESIDUAL, ReferenceProfile
from monitoring.variation import expected, variation
from monitoring.window import WindowProfile

Floats = npt.NDArray[np.float64]

_DAY_ROWS = 50
# Chance of one in a million, by the bound that is used.
_SURE_NATS = float(np.log(1e6))
_MANY, _SHARE = 5, 0.01
_FLIPPED, _FLIPPED_SE = 0.02, 4.5
_HIGH, _FEWER_SE = 0.5, 2.5
_FEWEST_BINS = 4
# Calibration varies some more than its rows explain.
_FIT, _FIT_SHARE = 3.0, 0.03


def find_label_faults(reference: ReferenceProfile, window: WindowProfile, labels: LabelCounts) -> tuple[Fault, ...]:
    """What is wrong with the labels of a window.

    Args:
        reference: of the version that answered.
        window: of its predictions, with the labels that are known.
        labels: what came back.
    """
    return (*_counted(labels), *_days(reference, labels), *_flipped(reference, window))


def _counted(labels: LabelCounts) -> Iterator[Fault]:
    least = max(_MANY, _SHARE * labels.received)
    if labels.repeated >= least:
        yield Fault(column=LABEL, kind="duplicates", detail=f"{labels.repeated} of {labels.received} labels came twice")
    if labels.contradicting >= least:
        said = f"{labels.contradicting} of {labels.received} labels contradict an earlier one of the same prediction"
        yield Fault(column=LABEL, kind="duplicates", detail=said)
    if labels.early >= least:
        said = f"{labels.early} of {labels.received} labels were known before their question was asked"
        yield Fault(column=LABEL, kind="clock", detail=said)


def _days(reference: ReferenceProfile, labels: LabelCounts) -> Iterator[Fault]:
    judged = [day for day in labels.days if day.due >= _DAY_ROWS]
    for day in judged:
        usual = float(np.median([other.labelled / other.due for other in judged if other is not day] or [0.0]))
        share = day.labelled / day.due
        if share < usual / 2 and day.due * _divergence(share, usual) > _SURE_NATS:
            said = f"{day.labelled} of {day.due} labels of {day.day} are there, where {usual:.0%} usually are"
            yield Fault(column=LABEL, kind="labels missing", detail=said)
        yield from _alike(reference, day)


def _alike(reference: ReferenceProfile, day: LabelDay) -> Iterator[Fault]:
    """Whether a day has labels of one kind alone where there always were both."""
    if day.labelled < _DAY_ROWS or LABEL not in reference.histograms.places or 0 < day.positive < day.labelled:
        return
    column = next(column for column in reference.bins if column.name == LABEL)
    counts = reference.histograms.of(LABEL)
    missing = 1.0 if day.positive == 0 else 0.0
    if missing not in column.edges:
        return
    rows = counts.sum(axis=1)
    filled = rows >= min(_DAY_ROWS, int(np.median(rows)))
    share = (counts[filled, column.edges.index(missing)] + 0.5) / (rows[filled] + 1)
    if day.labelled * -float(np.log1p(-min(share.min(), 0.99))) > _SURE_NATS:
        said = f"all {day.labelled} labels of {day.day} are {1 - missing:g}"
        yield Fault(column=LABEL, kind="labels flipped", detail=said)


def _flipped(reference: ReferenceProfile, window: WindowProfile) -> Iterator[Fault]:
    """Whether a share of the labels is the other way round, whatever the score.

    If a share e of the labels is flipped, the positive share p at a score becomes p + e (1 - 2 p), so it moves most
    where the version is surest. Where the concept drifts, the odds change, and p moves by d p (1 - p), least where the
    version is surest. Both are fitted by weighted least squares: labels count as flipped if the first is needed, beside
    the second and beyond the reference's own variation, and explains what is seen without it. Beyond doubt it has to be
    that labels are fewer where they were many, too: more of them everywhere is the world's doing, such as the surcharge
    of February 2019 that made most taxi passengers tip more. A version that has come to tell nothing apart any more
    looks the same as one whose labels are flipped.
    """
    column = next((column for column in reference.bins if column.name == RESIDUAL), None)
    if column is None or not window.histograms.of(RESIDUAL).any():
        return
    at = expected(column, reference.histograms, reference.grid, reference.first_block, window.histograms)
    there = at.window.rows > 0
    usual, away = at.values[there], (at.window.values - at.values)[there]
    variance = np.maximum(usual * (1 - usual), 0.01) * at.error[there]
    flips, odds = 1 - 2 * usual, usual * (1 - usual)
    if len(usual) < _FEWEST_BINS:
        return
    solved = _least_squares(np.stack([flips, odds], axis=1), variance)
    found = variation(column, reference.histograms, reference.grid, reference.first_block, window.blocks)
    own = float(((found.beyond_sampling()[:, there] @ solved.estimate[0]) ** 2).mean()) if found is not None else 0.0
    certain = float(solved.estimate[0] @ away) / np.sqrt(solved.covariance[0, 0] + own)
    alone = _least_squares(flips[:, None], variance)
    share = float(alone.estimate[0] @ away)
    seen = float((away**2 / variance).sum())
    left = float(((away - share * flips) ** 2 / variance).sum())
    high = usual > _HIGH
    fewer = -float((away / variance)[high].sum() / np.sqrt((1 / variance[high]).sum())) if high.any() else 0.0
    if (
        share > _FLIPPED
        and min(certain / _FLIPPED_SE, fewer / _FEWER_SE) > 1
        and left < _FIT * len(usual) + _FIT_SHARE * seen
    ):
        said = f"about {share:.0%} of {at.rows} labels contradict their scores, the surest as much as the others"
        yield Fault(column=LABEL, kind="labels flipped", detail=said)


@dataclass(frozen=True)
class _Solved:
    """Weighted least squares with k levers: the estimates are `estimate` @ values, (k, m), of that covariance."""

    estimate: Floats
    covariance: Floats


def _least_squares(levers: Floats, variance: Floats) -> _Solved:
    """Of m values with these variances on levers of shape (m, k)."""
    weighted = levers / variance[:, None]
    covariance = np.asarray(np.linalg.pinv(levers.T @ weighted), dtype=np.float64)
    return _Solved(covariance @ weighted.T, covariance)


def _divergence(share: float, usual: float) -> float:
    """Kullback-Leibler divergence of two shares, in nats; n times it bounds the log of the chance of so small a share.

    Source: Chernoff (1952).
    """
    usual = min(max(usual, 1e-9), 1 - 1e-9)
    found = (1 - share) * np.log((1 - share) / (1 - usual)) if share < 1 else 0.0
    return float(found + (share * np.log(share / usual) if share > 0 else 0.0))
