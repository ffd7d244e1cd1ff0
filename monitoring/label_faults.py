"""Faults of labels: missing, repeated, all alike, earlier than their question, or flipped."""

from __future__ import annotations

from collections.abc import Iterator

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
_FLIPPED, _FLIPPED_SE, _SIDE_SE = 0.02, 5.0, 2.5
_LOW, _HIGH = 0.4, 0.6
_FEW_ROWS_SE = 1.5
_FIT = 0.5


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
    """Whether labels are the other way round for a share of the rows, whatever their score.

    If a share e of the labels is flipped, the positive share p at a score becomes p + e (1 - 2 p): more positives among
    low scores *and* fewer among high ones. Drift of the concept moves both the same way as a rule. e is estimated by
    weighted least squares; its error has the reference's own variation in it. A version that scores all rows on one
    side of one half does not let it be told from drift.
    """
    column = next((column for column in reference.bins if column.name == RESIDUAL), None)
    if column is None or not window.histograms.of(RESIDUAL).any():
        return
    at = expected(column, reference.histograms, reference.grid, reference.first_block, window.histograms)
    there = (at.window.rows > 0) & (at.values > 0)
    usual, away = at.values[there], (at.window.values - at.values)[there]
    variance = np.maximum(usual * (1 - usual), 0.01) * at.error[there]
    lever = 1 - 2 * usual
    precision = float((lever**2 / variance).sum())
    if not precision:
        return
    share = float((away * lever / variance).sum()) / precision
    found = variation(column, reference.histograms, reference.grid, reference.first_block, window.blocks)
    if found is None:
        error = _FEW_ROWS_SE / np.sqrt(precision)
    else:
        drawn = (found.deviations[:, there] * lever / variance).sum(axis=1) / precision
        error = float(np.sqrt(1 / precision + (drawn**2).mean()))
    left = float(((away - share * lever) ** 2 / variance).sum()) / float((away**2 / variance).sum())
    sides = min(
        _z(away[usual < _LOW], variance[usual < _LOW]), -_z(away[usual > _HIGH], variance[usual > _HIGH])
    )  # fmt: skip
    if share > max(_FLIPPED, _FLIPPED_SE * error) and sides > _SIDE_SE and left < _FIT:
        said = f"about {share:.0%} of {at.rows} labels contradict their scores, low and high ones alike"
        yield Fault(column=LABEL, kind="labels flipped", detail=said)


def _z(away: Floats, variance: Floats) -> float:
    """The sum of some deviations, weighted by their precision, in its standard errors; 0 without any."""
    return float((away / variance).sum() / np.sqrt((1 / variance).sum())) if away.size else 0.0


def _divergence(share: float, usual: float) -> float:
    """Kullback-Leibler divergence of two shares, in nats; n times it bounds the log of the chance of so small a share.

    Source: Chernoff (1952).
    """
    usual = min(max(usual, 1e-9), 1 - 1e-9)
    found = (1 - share) * np.log((1 - share) / (1 - usual)) if share < 1 else 0.0
    return float(found + (share * np.log(share / usual) if share > 0 else 0.0))
