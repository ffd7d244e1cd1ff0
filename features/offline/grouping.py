"""Giving entities small numbers, the same for questions and stored rows, and ordering rows by them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from features.streams import entity_text

Ints = npt.NDArray[np.int64]
NOBODY = -1
_DENSE = 1 << 20


@dataclass(frozen=True)
class Coded:
    """A column as numbers of its distinct values.

    Args:
        codes: shape (n,), `NOBODY` for null (None, NaN or "").
        values: the distinct values: Arrow int64 or string.
    """

    codes: Ints
    values: pa.Array


def coded(column: pd.Series | pa.ChunkedArray) -> Coded:
    """Number the values of an entity's column: int, str, float that holds whole numbers, or dictionary of str."""
    if isinstance(column, pa.ChunkedArray):
        if pa.types.is_dictionary(column.type):
            joined = column.unify_dictionaries().combine_chunks()
            joined = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
            places = joined.indices.fill_null(NOBODY) if joined.null_count else joined.indices
            return _without_empty(Coded(places.to_numpy().astype(np.int64), joined.dictionary))
        column = column.to_pandas()
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        return _coded_ints(column.to_numpy(dtype=np.int64))
    if column.dtype.kind in "iuf":
        present = column.notna().to_numpy()
        found = _coded_ints(column[present].to_numpy(dtype=np.int64))
        codes = np.full(len(column), NOBODY, dtype=np.int64)
        codes[present] = found.codes
        return Coded(codes, found.values)
    numbers, distinct = pd.factorize(column, use_na_sentinel=True)
    values = distinct.tolist()
    if values and all(isinstance(value, int | np.integer) for value in values):
        return Coded(numbers.astype(np.int64), pa.array(values, pa.int64()))
    texts = pa.array([str(value) for value in values], pa.string())
    return _without_empty(Coded(numbers.astype(np.int64), texts))


def _coded_ints(values: Ints) -> Coded:
    if not len(values):
        return Coded(values, pa.array([], pa.int64()))
    low, high = int(values.min()), int(values.max())
    if high - low >= max(_DENSE, 4 * len(values)):
        codes, distinct = pd.factorize(values)
        return Coded(codes.astype(np.int64), pa.array(distinct))
    is_there = np.zeros(high - low + 1, dtype=bool)
    is_there[values - low] = True
    present = np.flatnonzero(is_there)
    if len(present) == len(is_there):
        return Coded(values - low, pa.array(present + low))
    return Coded((np.cumsum(is_there) - 1)[values - low], pa.array(present + low))


def _without_empty(found: Coded) -> Coded:
    """An empty text stands for null."""
    empty = pc.index(found.values, "").as_py()
    return found if empty < 0 else Coded(np.where(found.codes == empty, NOBODY, found.codes), found.values)


def entity_codes(asked: Sequence[Coded], held: Sequence[Coded]) -> tuple[Ints, Ints, int]:
    """One number per entity, where an entity is one key or several together.

    Args:
        asked: for each key, the questions' column.
        held: for each key, the stored rows' column.

    Returns:
        Of the questions (n,), from 0 to the number of entities, and one that no row has where nothing is stored;
        of the rows (m,), from 0, `NOBODY` where a key is null; the number of entities.
    """
    ours, theirs, entities = _matched(asked[0], held[0]), held[0].codes, len(held[0].values)
    for mine, other in zip(asked[1:], held[1:], strict=True):
        size = len(other.values)
        ours, theirs = _paired(ours, _matched(mine, other), size), _paired(theirs, other.codes, size)
        entities *= size
        if entities > max(_DENSE, len(theirs)):
            ours, theirs, entities = _renumbered(ours, theirs)
    return np.where(ours < 0, entities, ours), theirs, entities


def _paired(first: Ints, second: Ints, size: int) -> Ints:
    return np.where((first < 0) | (second < 0), NOBODY, first * size + second)


def _renumbered(ours: Ints, theirs: Ints) -> tuple[Ints, Ints, int]:
    codes, distinct = pd.factorize(theirs, use_na_sentinel=False)
    found = pd.Index(distinct).get_indexer(pd.Index(ours))
    return np.where(ours < 0, NOBODY, found), np.where(theirs < 0, NOBODY, codes), len(distinct)


def text_codes(asked: Sequence[Coded], held: pa.Array) -> Ints:
    """The place of each question's entity among the texts of stored entities, `NOBODY` where it is not there.

    Args:
        asked: for each key, the questions' column.
        held: distinct entity texts (see `features.streams.entity_text`).
    """
    if len(asked) == 1:
        texts = Coded(asked[0].codes, asked[0].values.cast(pa.string()))
        return _matched(texts, Coded(np.zeros(0, np.int64), held))
    codes, _, _ = entity_codes(asked, asked)
    is_null = np.any([column.codes < 0 for column in asked], axis=0)
    numbers, firsts = np.unique(codes[~is_null], return_index=True)
    places = np.flatnonzero(~is_null)[firsts]
    parts = [column.values.take(pa.array(column.codes[places])).to_pylist() for column in asked]
    texts = pa.array([entity_text(values) for values in zip(*parts, strict=True)], pa.string())
    found = np.full(len(codes), NOBODY, dtype=np.int64)
    found[~is_null] = np.searchsorted(numbers, codes[~is_null])
    return _matched(Coded(found, texts), Coded(np.zeros(0, np.int64), held))


def _matched(asked: Coded, held: Coded) -> Ints:
    """The number that each asked value has among the held, `NOBODY` where it is not there."""
    mine, theirs = asked.values, held.values
    if mine.type != theirs.type:
        mine, theirs = mine.cast(pa.string()), theirs.cast(pa.string())
    places = pc.index_in(mine, value_set=theirs).fill_null(NOBODY).to_numpy(zero_copy_only=False)
    return np.append(places.astype(np.int64), NOBODY)[asked.codes]


def shares(columns: Sequence[Coded], count: int) -> Ints:
    """Split entities into `count` shares of about equal size: the share of each row, from 0; shape (n,).

    The same for the same entity, whether its keys come as int or str.
    """
    mixed = np.zeros(len(columns[0].codes), dtype=np.uint64)
    for column in columns:
        texts = column.values.cast(pa.string()).to_numpy(zero_copy_only=False)
        hashed = np.append(pd.util.hash_array(texts.astype(object), categorize=False), np.uint64(0))
        mixed = mixed * np.uint64(31) + hashed[column.codes]
    return (mixed % np.uint64(count)).astype(np.int64)


def order_by_group(groups: Ints, size: int) -> Ints:
    """Places of rows grouped by number, in their order within each group; shape (n,).

    Args:
        groups: the group of each row, from 0 to `size` - 1.
        size: how many groups there are.
    """
    n = len(groups)
    index: Any = np.int32 if max(n, size) < 2**31 else np.int64
    # A matrix with a one in each row, in the column of its group, lists by column just that; the counting sort
    # behind it is several times as fast as NumPy's stable sort.
    ones = np.ones(n, dtype=np.int8)
    by_row = csr_array((ones, groups.astype(index), np.arange(n + 1, dtype=index)), shape=(n, size))
    return np.asarray(by_row.tocsc().indices, dtype=np.int64)


class SearchAxis:
    """Rows sorted by group and then by a value, searched as one integer.

    Args:
        group: shape (n,), from 0.
        value: shape (n,).
        groups: how many groups there are.
        order: places of the m rows that count, by group and value, shape (m,).
        bounds: the least and the greatest value; None: they are looked for.
        is_running: whether values may fall within a group, and the greatest so far counts.

    Example:
        >>> axis = SearchAxis(np.array([1, 0, 1]), np.array([5, 7, 9]), 2, np.array([1, 0, 2]))
        >>> axis.upto(np.array([0, 1, 1]), np.array([6, 5, 50])).tolist()
        [0, 2, 3]
    """

    def __init__(
        self,
        group: Ints,
        value: Ints,
        groups: int,
        order: Ints,
        *,
        bounds: tuple[int, int] | None = None,
        is_running: bool = False,
    ) -> None:
        self._levels: Ints | None = None
        low, high = bounds or ((int(value.min()), int(value.max())) if len(value) else (0, 0))
        if (high - low + 2) * (groups + 1) + max(abs(low), abs(high)) >= 2**62:
            self._levels = np.unique(value)
            value, low, high = np.searchsorted(self._levels, value), 0, len(self._levels) - 1
        self._low, self._high = low, high
        keys = group * (high - low + 2)
        keys += value
        self.keys: Ints = keys[order]
        if is_running:
            np.maximum.accumulate(self.keys, out=self.keys)

    def take(self, places: Ints) -> SearchAxis:
        """The axis of some of its rows, in order."""
        part = copy(self)
        part.keys = self.keys[places]
        return part

    def upto(self, group: Ints, value: Ints) -> Ints:
        """How many rows come before, in the group or an earlier one, up to and with the value; shape (q,)."""
        if self._levels is not None:
            value = np.searchsorted(self._levels, value, side="right") - 1
        place = np.clip(value, self._low - 1, self._high)
        place += group * (self._high - self._low + 2)
        return np.searchsorted(self.keys, place, side="right")
