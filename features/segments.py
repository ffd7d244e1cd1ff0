"""Parts of the rows that are looked at separately: cut once, for reference profiles, performance and the gate alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from core.use_case import UseCase

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
LOGGED = "f__"
"""What names of feature columns begin with in the log."""
_MOST_SEGMENTS = 8
_MOST_CODES = 10
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Cut:
    """How the values of one column make segments that exclude each other; rows without a value are in none.

    Args:
        column: a request field or feature column.
        edges: of a quantity: where one segment ends and the next begins, rising.
        categories: of a code: those that are segments, as text; others are in none.

    Example:
        >>> cut = Cut.of("vendor", np.array([1.0, 2.0, 2.0]))
        >>> cut.names, cut.members(np.array([2.0, 9.0])).tolist()
        (('vendor=2', 'vendor=1'), [0, -1])
    """

    column: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @classmethod
    def of(cls, column: str, values: npt.NDArray[Any], *, fewest: int = 1) -> Cut:
        """A quantity is cut at its quartiles; of a code the largest eight values are segments.

        Args:
            column: its name.
            values: (n,); codes if they are few, or of no numeric dtype: see `segment_values`.
            fewest: rows of a code that is a segment.
        """
        held = pd.Series(values)
        counts = held.value_counts()
        if len(counts) > _MOST_CODES and pd.api.types.is_numeric_dtype(held):
            edges = np.unique(held.quantile(list(_QUARTILES)).to_numpy(dtype=np.float64))
            return cls(column, edges=tuple(float(edge) for edge in edges))
        kept = counts[counts >= fewest].index[:_MOST_SEGMENTS]
        return cls(column, categories=tuple(_text(value) for value in kept))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the segments, e.g. ``vendor_id=2`` or ``4<=fare<9``."""
        if not self.edges:
            return tuple(f"{self.column}={category}" for category in self.categories)
        low, high = self.edges[0], self.edges[-1]
        inner = (f"{a:g}<={self.column}<{b:g}" for a, b in zip(self.edges, self.edges[1:], strict=False))
        return (f"{self.column}<{low:g}", *inner, f"{high:g}<={self.column}")

    def members(self, values: npt.NDArray[Any]) -> Ints:
        """Which of the segments each of n rows is in, (n,); -1: none."""
        if self.edges:
            numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
            place = np.searchsorted(np.array(self.edges), numbers, side="right").astype(np.int64)
            return np.where(np.isnan(numbers), -1, place)
        codes, found = pd.factorize(values)
        places = {category: i for i, category in enumerate(self.categories)}
        return np.array([*(places.get(_text(value), -1) for value in found), -1], dtype=np.int64)[codes]

    def masks(self, values: npt.NDArray[Any]) -> Iterator[tuple[str, Mask]]:
        """Name and rows, bool (n,), of each segment."""
        members = self.members(values)
        for i, name in enumerate(self.names):
            yield name, members == i


def segment_values(
    use_case: UseCase, *tables: pd.DataFrame, names: Sequence[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The values by which a use case's rows are told apart, by column; columns that no table has are left out.

    Args:
        use_case: those columns it calls codes come with dtype object, whatever they look like.
        tables: of the same n rows: requests, features, logged predictions; the first that has a column counts.
        names: of the columns; those its policy names by default.
    """
    found = {}
    for name in use_case.policy.segments if names is None else names:
        column = next((column for table in tables if (column := column_of(table, name)) is not None), None)
        if column is not None:
            values = column.to_numpy()
            found[name] = values.astype(object) if name in use_case.codes else values
    return found


def column_of(frame: pd.DataFrame, name: str) -> pd.Series | None:
    """A request field or feature column, as it is called in the log or in a reference; None if there is none."""
    return next((frame[each] for each in (name, LOGGED + name, name.removeprefix(LOGGED)) if each in frame), None)


def cuts_named(names: Sequence[str]) -> tuple[Cut, ...]:
    """The cuts of codes whose segments have such names, as ``vendor_id=2``."""
    found: dict[str, list[str]] = {}
    for name in names:
        column, _, category = name.partition("=")
        found.setdefault(column, []).append(category)
    return tuple(Cut(column, categories=tuple(categories)) for column, categories in found.items())


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
