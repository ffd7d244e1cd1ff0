"""Parts of the rows that are looked at separately: by category, or between quantiles of the reference."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Rows = npt.NDArray[np.bool_]
LOGGED = "f__"
"""What names of feature columns begin with in the log."""
_MOST_CATEGORIES = 8
_MOST_CODES = 10
_QUANTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Segmentation:
    """How one column cuts rows into segments.

    Args:
        column: a request field or feature column.
        edges: of a quantity: where one segment ends and the next begins, rising.
        categories: of a code: those that are segments of their own; all others are one.
    """

    column: str
    edges: tuple[float, ...] = ()
    categories: tuple[Any, ...] = ()

    def cut(self, frame: pd.DataFrame) -> Iterator[tuple[str, Rows]]:
        """Name and rows, bool (n,), of each segment that has any; none if the frame lacks the column."""
        values = column_of(frame, self.column)
        if values is None:
            return
        missing = values.isna().to_numpy()
        for name, rows in (*self._parts(values, missing), (f"{self.column} missing", missing)):
            if rows.any():
                yield name, rows

    def _parts(self, values: pd.Series, missing: Rows) -> Iterator[tuple[str, Rows]]:
        if self.edges:
            place = np.searchsorted(np.array(self.edges), values.to_numpy(dtype=np.float64), side="right")
            for i in range(len(self.edges) + 1):
                yield self._between(i), (place == i) & ~missing
            return
        known = np.zeros(len(values), dtype=bool)
        for category in self.categories:
            rows = (values == category).to_numpy(dtype=bool, na_value=False)
            known |= rows
            yield f"{self.column}={_text(category)}", rows
        yield f"{self.column} other", ~known & ~missing

    def _between(self, i: int) -> str:
        if i == 0:
            return f"{self.column}<{self.edges[0]:g}"
        low = f"{self.edges[i - 1]:g}<={self.column}"
        return low if i == len(self.edges) else f"{low}<{self.edges[i]:g}"


def segmentations(
    columns: Sequence[str], reference: pd.DataFrame, categorical: Collection[str] = ()
) -> tuple[Segmentation, ...]:
    """How a reference cuts rows by each of some columns: quantities at its quartiles, codes by its largest.

    Args:
        columns: request fields or feature columns; one that the reference lacks is left out.
        reference: rows that the cuts are made from.
        categorical: columns that are codes whatever their values; others are if they have few values or are text.
    """
    made = []
    for column in columns:
        values = column_of(reference, column)
        if values is None or not values.notna().any():
            continue
        is_code = {column, bare(column)} & set(categorical) or not pd.api.types.is_numeric_dtype(values)
        if is_code or values.nunique() <= _MOST_CODES:
            made.append(Segmentation(column, categories=tuple(values.value_counts().index[:_MOST_CATEGORIES])))
        else:
            edges = np.unique(values.quantile(list(_QUANTILES)).to_numpy(dtype=np.float64))
            made.append(Segmentation(column, edges=tuple(float(edge) for edge in edges)))
    return tuple(made)


def column_of(frame: pd.DataFrame, name: str) -> pd.Series | None:
    """A request field or feature column, as it is called in the log or in a reference; None if there is none."""
    return next((frame[each] for each in (name, LOGGED + name, bare(name)) if each in frame), None)


def bare(name: str) -> str:
    """The name of a feature column without what it begins with in the log."""
    return name.removeprefix(LOGGED)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
