"""Columns that are known only with the label: no client could send them with the question."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from registry.leakage import features_alone
from stack.scaffold.columns import Column, numbers, texts

_AUC, _COPIES, _RANK = 0.985, 0.97, 0.97
_FILLED_WITH, _EMPTY_WITHOUT, _LEAST_UNKNOWN = 0.95, 0.8, 20
_SAMPLE, _ROWS, _MOST_SUMMANDS, _EXPLAINED = 1000, 20_000, 60, 0.95


def leaks(table: pd.DataFrame, columns: list[Column], label: str, outcome: pd.Series) -> dict[str, str]:
    """Which columns tell the label, or come with it, and how each was found out.

    Args:
        table: the rows.
        columns: those that may be known at request time.
        label: the label's column.
        outcome: 1, 0 or NaN where unknown, in the order of the table.
    """
    found: dict[str, str] = {}
    unknown = outcome.isna()
    known = table[~unknown]
    if len(known) > _ROWS:
        known = known.iloc[:: len(known) // _ROWS]
    y = outcome.loc[known.index].to_numpy(dtype=np.int64)
    for column in columns:
        if unknown.sum() >= _LEAST_UNKNOWN:
            filled = table[column.name].notna()
            if filled[~unknown].mean() >= _FILLED_WITH and (~filled[unknown]).mean() >= _EMPTY_WITHOUT:
                found[column.name] = "it is filled only where the label is known"
    matrix = {c.name: as_float(known[c.name], c) for c in columns}
    for alone in features_alone(matrix, y):
        if alone.feature in found or (alone.auc < _AUC and (alone.copies or 0) < _COPIES):
            continue
        how = "being there or not" if alone.by == "missing" else "its value"
        found[alone.feature] = f"{how} alone tells the label (AUC {alone.auc:.3f})"
    return found | _of_source(known, columns, label, found)


def _of_source(known: pd.DataFrame, columns: list[Column], label: str, found: Mapping[str, str]) -> dict[str, str]:
    """Columns from which the number that the label was cut from can be computed."""
    source = numbers(known[label])
    if source.nunique() <= 2:
        return {}
    more: dict[str, str] = {}
    numeric = [c.name for c in columns if c.kind == "number" and c.distinct > 2]
    ranks = source.rank()
    for name in numeric:
        both = numbers(known[name]).rank()
        if name not in found and both.notna().mean() > 0.5 and abs(ranks.corr(both)) >= _RANK:
            more[name] = f"it goes up and down with {label!r}"
    some = known.iloc[:: max(1, len(known) // _SAMPLE)]
    target = numbers(some[label]).to_numpy()
    held = {name: numbers(some[name]).to_numpy() for name in numeric[:_MOST_SUMMANDS]}
    for a, b in combinations(held, 2):
        pairs = (
            (held[a] + held[b], "and", "add up to"),
            (held[a] - held[b], "less", "is"),
            (held[b] - held[a], "from", "is"),
        )
        for computed, joined, makes in pairs:
            if _same(computed, target):
                for name in (a, b):
                    if name not in found:
                        more.setdefault(name, f"{a!r} {joined} {b!r} {makes} {label!r}")
    rest = [name for name in held if name not in found and name not in more]
    return more | dict.fromkeys(_summands(held, rest, target), f"with others it adds up to {label!r}")


def _summands(
    held: Mapping[str, npt.NDArray[np.float64]], names: list[str], target: npt.NDArray[np.float64]
) -> list[str]:
    """Columns without which the target is no longer a weighted sum of the others, found one after the other."""
    there, left = np.isfinite(target), list(names)
    culprits: list[str] = []
    y = target[there] - target[there].mean()
    if not y.any():
        return []
    while left:
        x = np.nan_to_num(np.column_stack([held[name][there] for name in left]), posinf=0, neginf=0)
        x = x - x.mean(axis=0)
        scale = x.std(axis=0)
        weights, *_ = np.linalg.lstsq(x / np.where(scale > 0, scale, 1), y, rcond=None)
        if ((y - x / np.where(scale > 0, scale, 1) @ weights) ** 2).sum() > (1 - _EXPLAINED) * (y**2).sum():
            return culprits
        culprits.append(left.pop(int(np.argmax(np.abs(weights)))))
    return culprits


def _same(computed: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> bool:
    there = np.isfinite(computed) & np.isfinite(target)
    if there.mean() < 0.5 or not there.any():
        return False
    scale = max(float(np.abs(target[there]).max()), 1e-9)
    return bool((np.abs(computed[there] - target[there]) <= 1e-6 * scale).mean() > 0.98)


def as_float(values: pd.Series, column: Column) -> npt.NDArray[np.float32]:
    """A column as a feature is: texts by how often they occur, missing is NaN."""
    if column.kind in ("number", "flag"):
        return numbers(values).to_numpy(dtype=np.float32)
    as_text = texts(values)
    place = {value: i for i, value in enumerate(as_text.value_counts().index)}
    return as_text.map(place).to_numpy(dtype=np.float32)
