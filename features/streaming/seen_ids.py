"""Which event ids were seen: 64-bit hashes by source and day of the event, as sorted runs.

Two different ids of one source, day and partition are taken for the same with a chance of n² / 2⁶⁵ for n ids: 3 in a
million for ten million. An id costs 8 bytes here and 8 in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
DAY_US = 86_400_000_000


def hash_ids(ids: Sequence[str]) -> Hashes:
    """64 bits of each id: SipHash of its UTF-8, the same in every process."""
    found = pd.util.hash_array(np.array(ids, dtype=object), categorize=False)
    return np.asarray(found, dtype=np.uint64)


class SortedRuns:
    """A set of hashes that grows by sorted arrays; few of them are kept by merging those of like size.

    Example:
        >>> runs = SortedRuns()
        >>> runs.add(np.array([3, 9], dtype=np.uint64))
        >>> runs.contains(np.array([2, 3], dtype=np.uint64)).tolist()
        [False, True]
    """

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def contains(self, hashed: Hashes) -> Bools:
        """Whether each of the sorted hashes is in the set."""
        found = np.zeros(len(hashed), dtype=bool)
        for run in self._runs:
            at = np.searchsorted(run, hashed)
            found |= run[np.minimum(at, len(run) - 1)] == hashed
        return found

    def add(self, hashed: Hashes) -> None:
        """Put sorted hashes into the set."""
        if not len(hashed):
            return
        self._runs.append(hashed)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate((self._runs.pop(), self._runs.pop()))
            merged.sort(kind="stable")  # which merges sorted runs
            self._runs.append(merged)


class SeenIds:
    """The ids seen in one partition, held in memory by the worker that has its lease.

    Args:
        load: the hashes that Redis holds of a source and day, as they were appended.
    """

    def __init__(self, load: Callable[[str, int], bytes]) -> None:
        self._load = load
        self._days: dict[tuple[str, int], SortedRuns] = {}

    def __len__(self) -> int:
        return sum(len(runs) for runs in self._days.values())

    def take(self, source: str, at_us: Ints, hashed: Hashes) -> tuple[Bools, dict[int, Hashes]]:
        """Remember the ids of some events.

        Returns:
            Which events are seen for the first time, shape (n,), and the new hashes of each day, sorted.
        """
        is_first = np.zeros(len(hashed), dtype=bool)
        fresh: dict[int, Hashes] = {}
        for day, rows in _by_day(at_us):
            unique, first = np.unique(hashed[rows], return_index=True)
            seen = self._of(source, day)
            is_new = ~seen.contains(unique)
            is_first[rows[first[is_new]]] = True
            if is_new.any():
                fresh[day] = unique[is_new]
                seen.add(unique[is_new])
        return is_first, fresh

    def forget(self, source: str, before_day: int) -> None:
        """Drop the days before one."""
        for key in [key for key in self._days if key[0] == source and key[1] < before_day]:
            del self._days[key]

    def _of(self, source: str, day: int) -> SortedRuns:
        if (source, day) not in self._days:
            runs = SortedRuns()
            runs.add(np.sort(np.frombuffer(self._load(source, day), dtype="<u8")))
            self._days[source, day] = runs
        return self._days[source, day]


def _by_day(at_us: Ints) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Each day and its rows, in order."""
    days = at_us // DAY_US
    found = np.unique(days)
    for day in found.tolist():
        yield day, np.flatnonzero(days == day) if len(found) > 1 else np.arange(len(days))
