"""Past questions as the arrays that feature functions see: what `features.columns` makes of requests, all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import Field, UseCase
from features.definitions import StoredView, view_digest
from features.offline.grouping import Coded, coded, order_by_group

Ints = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
BY_TIME = -1
"""What a question is said to have known of a view whose values it did not read: what was known at its time."""
_QUESTIONS_AT_ONCE = 1 << 16


class Questions:
    """Past questions, with what several views ask of them computed once.

    Args:
        rows: n questions, see `features.offline.point_in_time.point_in_time_matrix`.
        progress: is told how much of how much is done.
        steps: how many times every question is worked on.
    """

    def __init__(self, rows: pd.DataFrame, progress: Progress | None = None, steps: int = 1) -> None:
        self.rows = rows
        self.at_us = to_us_array(rows["at"])
        self._coded: dict[str, Coded] = {}
        self._progress, self._done, self._total = progress, 0, steps * len(rows)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.at_us)

    def blocks(self, n: int | None = None) -> Iterator[slice]:
        """Runs of questions (of the first `n`) to be worked on at once, so that little is held."""
        stop = len(self) if n is None else n
        return (slice(first, min(first + _QUESTIONS_AT_ONCE, stop)) for first in range(0, stop, _QUESTIONS_AT_ONCE))

    def coded(self, key: str) -> Coded:
        """An entity's column as numbers."""
        with self._lock:
            if key not in self._coded:
                self._coded[key] = coded(self.rows[key])
            return self._coded[key]

    def known(self, use_case: UseCase, view: StoredView) -> Ints | None:
        """What each knew of a view, `BY_TIME` where nothing is recorded; None if that holds for all."""
        return known_column(self.rows, f"k__{view.name}@{view_digest(use_case.name, view)}")

    def by_entity(self, entity: Ints, entities: int) -> Ints:
        """Their order by entity (from 0 to `entities`) and time."""
        if self._by_time is None:
            return order_by_group(entity, entities + 1)
        return self._by_time[order_by_group(entity[self._by_time], entities + 1)]

    def done(self, n: int) -> None:
        """Tell that one step is done for `n` more questions."""
        if self._progress is not None:
            with self._lock:
                self._done += n
                self._progress(self._done, self._total)

    @cached_property
    def _by_time(self) -> Ints | None:
        is_rising = bool(np.all(self.at_us[1:] >= self.at_us[:-1]))
        return None if is_rising else np.argsort(self.at_us, kind="stable")


def in_parallel(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    """Do the work for every item, on as many threads as there are processors: NumPy and Arrow run side by side."""
    if len(items) < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        list(pool.map(work, items))


def to_us_array(moments: pd.Series) -> Ints:
    """UTC timestamps as int64 microseconds since 1970."""
    return np.asarray(moments.astype("datetime64[us, UTC]").astype("int64"), dtype=np.int64)


def field_column(field: Field, values: pd.Series) -> npt.NDArray[Any]:
    """A column of questions, as `features.columns.column_array` would make it.

    Returns:
        int64, float64 (NaN for null, also of nullable integers), or objects of str ("" for null), shape (n,).
    """
    if field.dtype == "str":
        codes, distinct = pd.factorize(values, use_na_sentinel=True)
        texts = np.array([*(str(value) for value in distinct.tolist()), ""], dtype=object)
        return np.asarray(texts[codes])
    if field.dtype == "int" and not field.nullable:
        return np.asarray(values.to_numpy(dtype=np.int64))
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def known_column(rows: pd.DataFrame, name: str) -> Ints | None:
    """What each question knew of a view, `BY_TIME` where nothing is recorded; None if that holds for all."""
    if name not in rows.columns:
        return None
    values = rows[name]
    known = values.to_numpy() if values.dtype == np.int64 else values.astype("Int64").fillna(BY_TIME).to_numpy(np.int64)
    return None if bool((known < 0).all()) else np.maximum(known, BY_TIME)
