"""Features that know too much: a model that looks at the label wins every comparison, and fails in service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry import metrics

_MOST_CODES, _ROWS_PER_CODE = 30, 20


@dataclass(frozen=True)
class FeatureAlone:
    """How well one feature tells the labels apart without any other.

    Args:
        feature: its name.
        auc: in [0.5, 1]: by its value, by whether it is there, or by which of a few values it has, the best of these.
        by: which of them: ``value``, ``missing`` or ``code``.
        copies: how much of the rarer label is known from the feature's value, from 0, nothing, to 1, a copy of the
            label; None if it has many values.
    """

    feature: str
    auc: float
    by: str
    copies: float | None


def features_alone(features: Mapping[str, npt.NDArray[np.float32]], labels: metrics.Labels) -> list[FeatureAlone]:
    """Each feature judged alone, the strongest first; none unless both labels occur.

    Codes, up to thirty and with twenty rows each on average, are ranked by their share of ones.

    Source: Kaufman, Rosset & Perlich (2011), "Leakage in data mining": features leak that predict surprisingly well.

    Args:
        features: by name, float32 (n,), NaN means missing.
        labels: (n,), 0 or 1.
    """
    if len(np.unique(labels)) < 2:
        return []
    found = [_alone(values, labels, name) for name, values in features.items()]
    return sorted(found, key=lambda each: (-each.auc, each.feature))


def _alone(values: npt.NDArray[np.float32], labels: metrics.Labels, name: str) -> FeatureAlone:
    missing = np.isnan(values)
    by = {"value": _separation(labels, np.where(missing, -np.inf, values))}
    if missing.any() and not missing.all():
        by["missing"] = _separation(labels, missing.astype(np.float64))
        by["value"] = max(by["value"], _separation(labels, np.where(missing, np.inf, values)))
    copies = None
    codes, which = np.unique(np.where(missing, np.inf, values), return_inverse=True)
    if 1 < len(codes) <= min(_MOST_CODES, len(labels) // _ROWS_PER_CODE):
        ones, rows = np.bincount(which, weights=labels), np.bincount(which)
        rarer = min(labels.sum(), len(labels) - labels.sum())
        copies = float(1 - np.minimum(ones, rows - ones).sum() / rarer)
        by["code"] = _separation(labels, (ones / rows)[which])
    best = max(by, key=lambda kind: by[kind])  # the first of equals
    return FeatureAlone(name, by[best], best, copies)


def _separation(labels: metrics.Labels, values: npt.NDArray[np.float64] | npt.NDArray[np.float32]) -> float:
    """AUC in the better direction."""
    found = metrics.auc(labels, np.asarray(values, dtype=np.float64))
    return 0.5 if found is None else max(found, 1 - found)
