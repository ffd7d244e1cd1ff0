"""Making the reference profile of a version from the rows it was trained and measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.losses import row_log_loss
from features.segments import Cut
from monitoring.bins import ColumnBins
from monitoring.counting import Groups, count_rows
from monitoring.magnitudes import SIZE, count_magnitudes
from monitoring.profile import (
    LABEL,
    QUANTILES,
    RESIDUAL,
    SCORE,
    Histograms,
    ReferenceProfile,
    SegmentQuality,
    Summary,
)
from monitoring.ranks import RankSums, ranks_of, related
from monitoring.seasons import Grid
from monitoring.streaks import Streaks

Values = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_MIN_SEGMENT_ROWS = 200


def profile_reference(
    matrix: Values,
    columns: Sequence[str],
    *,
    at: npt.NDArray[np.datetime64],
    categorical: Sequence[str] = (),
    scores: npt.NDArray[Any] | None = None,
    labels: npt.NDArray[Any] | None = None,
    importance: Mapping[str, float] | None = None,
    segments: Mapping[str, npt.NDArray[Any]] | None = None,
    pauses_s: Mapping[str, float] | None = None,
) -> ReferenceProfile:
    """Profile the rows a version was trained and measured on.

    Args:
        matrix: features, float32 (n, d), NaN for null, n > 0.
        columns: names of the features.
        at: when each row was asked, datetime64 UTC (n,).
        categorical: features that are codes.
        scores: (n,), NaN where the version has not scored the row, or had learnt from it.
        labels: 0 or 1 (n,), NaN where unknown.
        importance: of the features, on any scale.
        segments: by name of a request field or feature, its value in each row, (n,).
        pauses_s: of each event source, the longest time without any while the rows were asked.

    Example:
        >>> at = np.datetime64("2026-01-01", "us") + np.arange(100).astype("timedelta64[h]")
        >>> profile_reference(np.ones((100, 1), dtype=np.float32), ("fare",), at=at).rows
        100
    """
    at_us = np.asarray(at).astype("datetime64[us]").astype(np.int64)
    order = np.argsort(at_us, kind="stable")
    at_us = at_us[order]
    features = {name: np.ascontiguousarray(matrix[order, i], dtype=np.float32) for i, name in enumerate(columns)}
    extra = {SCORE: scores, LABEL: labels}
    values = features | {n: np.asarray(v, dtype=np.float32)[order] for n, v in extra.items() if v is not None}
    bins = _bins(values, features, frozenset(categorical))
    grid = Grid.over(float(at_us[-1] - at_us[0]) / 1e6)
    blocks = grid.block(at_us)
    sorted_by = {name: np.asarray(found)[order] for name, found in (segments or {}).items()}
    cuts = tuple(Cut.of(name, found, fewest=_MIN_SEGMENT_ROWS) for name, found in sorted_by.items())
    groups = [Groups(cut.names, cut.members(sorted_by[cut.column])) for cut in cuts]
    counts, parts = count_rows(bins, values, blocks - blocks[0], int(blocks[-1] - blocks[0]) + 1, groups)
    histograms = Histograms(bins, counts)
    kin = related([column for column in bins if column.name in features], importance or {})
    ranks = [ranks_of(histograms.of(column.name).sum(axis=0)) for column in kin]
    return ReferenceProfile(
        grid=grid,
        first_block=int(blocks[0]),
        histograms=histograms,
        segments={name: Histograms(bins, part) for name, part in parts.items()},
        cuts=cuts,
        summaries={name: _summary(column) for name, column in values.items()},
        correlations=RankSums.of(ranks, kin, features).correlations,
        related=tuple(column.name for column in kin),
        importance=_shares(importance or {}),
        quality=_quality(values, groups),
        magnitudes=np.stack([count_magnitudes(column) for column in features.values()])
        if features
        else np.zeros((0, SIZE), dtype=np.int64),
        longest_streaks=Streaks.of(list(features.values())).longest,
        rows=len(at_us),
        from_us=int(at_us[0]),
        to_us=int(at_us[-1]),
        longest_gap_s=float(np.diff(at_us).max(initial=0)) / 1e6,
        pauses_s=dict(pauses_s or {}),
    )


def _bins(
    values: Mapping[str, Values], features: Mapping[str, Values], codes: frozenset[str]
) -> tuple[ColumnBins, ...]:
    found = [
        ColumnBins.of_codes(name, column) if name in codes else ColumnBins.of_numbers(name, column)
        for name, column in features.items()
    ]
    score, label = values.get(SCORE), values.get(LABEL)
    if score is not None and not np.isnan(score).all():
        found.append(ColumnBins.of_numbers(SCORE, score))
    if label is not None and not np.isnan(label).all():
        found.append(ColumnBins.of_codes(LABEL, label))
    if score is not None and label is not None:
        both = ~(np.isnan(score) | np.isnan(label))
        if both.any():
            found.append(ColumnBins.of_calibration(RESIDUAL, score[both], float(label[both].std())))
    return tuple(found)


def _summary(column: Values) -> Summary:
    known = column[np.isfinite(column)].astype(np.float64)
    nulls = float(np.isnan(column).mean())
    if not known.size:
        return Summary(float("nan"), float("nan"), nulls, (float("nan"),) * len(QUANTILES))
    return Summary(
        float(known.mean()), float(known.std()), nulls, tuple(float(q) for q in np.quantile(known, QUANTILES))
    )


def _shares(importance: Mapping[str, float]) -> dict[str, float]:
    total = sum(max(value, 0.0) for value in importance.values())
    return {name: max(value, 0.0) / total for name, value in importance.items()} if total > 0 else {}


def _quality(values: Mapping[str, Values], groups: Sequence[Groups]) -> dict[str, SegmentQuality]:
    if SCORE not in values or LABEL not in values:
        return {}
    score, label = (values[name].astype(np.float64) for name in (SCORE, LABEL))
    both = ~(np.isnan(score) | np.isnan(label))
    loss = np.full(score.size, np.nan)
    loss[both] = row_log_loss(label[both], score[both])
    inside = {"": both} | {name: both & (g.members == i) for g in groups for i, name in enumerate(g.names)}
    return {
        name: SegmentQuality(int(rows.sum()), float(loss[rows].mean()), float(label[rows].mean()))
        for name, rows in inside.items()
        if rows.any()
    }
