"""The profile of a window of predictions, gathered chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.segments import column_of
from monitoring.counting import Groups, count_rows
from monitoring.magnitudes import SIZE, count_magnitudes
from monitoring.profile import LABEL, SCORE, Histograms, ReferenceProfile
from monitoring.ranks import RankSums
from monitoring.streaks import Streaks

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]


class WindowProfile:
    """What a window of predictions looks like on the bins of a reference; it does not grow with rows.

    Args:
        reference: of the version that answered.

    Example:
        >>> from monitoring.profiling import profile_reference
        >>> at = np.datetime64("2026-01-01", "us") + np.arange(100).astype("timedelta64[h]")
        >>> reference = profile_reference(np.ones((100, 1), dtype=np.float32), ("fare",), at=at)
        >>> WindowProfile(reference).add(pd.DataFrame({"at": at, "f__fare": 1.0})).rows
        100
    """

    def __init__(self, reference: ReferenceProfile) -> None:
        self._bins, self._grid = reference.bins, reference.grid
        self._related, self._rank_of = reference.related_bins, reference.ranks
        self._names = tuple(column.name for column in reference.features)
        self._cuts = reference.cuts
        width = sum(column.size for column in self._bins)
        self.rows = 0
        self.from_us: int | None = None
        self.to_us: int | None = None
        self.counts = np.zeros((self._grid.cells, width), dtype=np.int64)
        self.parts = {name: np.zeros_like(self.counts) for name in reference.segments}
        self._histograms = Histograms(self._bins, self.counts)  # of the very counts that grow
        self._parts = {name: Histograms(self._bins, part) for name, part in self.parts.items()}
        self.magnitudes = np.zeros((len(self._names), SIZE), dtype=np.int64)
        self.ranks = RankSums.none(len(self._related))
        self.streaks: Streaks | None = None
        self.missing: frozenset[str] = frozenset()

    @property
    def histograms(self) -> Histograms:
        """Of all rows, by cell of the grid."""
        return self._histograms

    def segment(self, name: str) -> Histograms:
        """Of one segment, by cell of the grid."""
        return self._parts[name]

    @property
    def blocks(self) -> int:
        """How many blocks of the grid lie between the first and the last row."""
        if self.from_us is None or self.to_us is None:
            return 0
        length = self._grid.block_s * 1_000_000
        return max(1, round((self.to_us - self.from_us) / length))

    def add(self, frame: pd.DataFrame) -> WindowProfile:
        """Count the rows of a chunk; chunks come in order of time.

        Args:
            frame: ``at`` (UTC), features as ``f__<name>`` or ``<name>``, and where there are ``score``, ``label`` (0 or
                1, NaN where it is not known) and the columns of the reference's segments.

        Returns:
            This profile.
        """
        if frame.empty:
            return self
        at_us = pd.DatetimeIndex(frame["at"]).as_unit("us").asi8
        if (np.diff(at_us) < 0).any():
            order = np.argsort(at_us, kind="stable")
            frame, at_us = frame.iloc[order], at_us[order]
        values, missing = self._values(frame)
        cells = self._grid.cell(self._grid.block(at_us))
        counts, parts = count_rows(self._bins, values, cells, self._grid.cells, self._groups(frame))
        features = [values[name] for name in self._names]
        self.missing |= missing
        self.counts += counts
        for name, part in parts.items():
            self.parts[name] += part
        self.ranks = self.ranks.plus(RankSums.of(self._rank_of, self._related, values))
        self.magnitudes += np.stack([count_magnitudes(column) for column in features])
        streaks = Streaks.of(features)
        self.streaks = streaks if self.streaks is None else self.streaks.then(streaks)
        self._reach(len(at_us), int(at_us[0]), int(at_us[-1]))
        return self

    def merge(self, later: WindowProfile) -> WindowProfile:
        """Add the rows of a profile of the same reference whose rows came later.

        Returns:
            This profile.
        """
        if later.from_us is None or later.to_us is None:
            return self
        self.counts += later.counts
        for name, part in later.parts.items():
            self.parts[name] += part
        self.magnitudes += later.magnitudes
        self.ranks = self.ranks.plus(later.ranks)
        self.missing |= later.missing
        if later.streaks is not None:
            self.streaks = later.streaks if self.streaks is None else self.streaks.then(later.streaks)
        self._reach(later.rows, later.from_us, later.to_us)
        return self

    def _reach(self, rows: int, from_us: int, to_us: int) -> None:
        self.rows += rows
        self.from_us = from_us if self.from_us is None else min(self.from_us, from_us)
        self.to_us = to_us if self.to_us is None else max(self.to_us, to_us)

    def _values(self, frame: pd.DataFrame) -> tuple[dict[str, Values], frozenset[str]]:
        """The columns as they are counted, and the features the chunk does not have, which are null."""
        found: dict[str, Values] = {}
        missing = set()
        for name in self._names:
            logged = _logged(frame, name)
            if logged is None:
                missing.add(name)
                found[name] = np.full(len(frame), np.nan, dtype=np.float32)
            else:
                found[name] = frame[logged].to_numpy(dtype=np.float32, na_value=np.nan)
        for name in (SCORE, LABEL):
            if name in frame:
                found[name] = frame[name].to_numpy(dtype=np.float32, na_value=np.nan)
        return found, frozenset(missing)

    def _groups(self, frame: pd.DataFrame) -> list[Groups]:
        found = [(cut, column_of(frame, cut.column)) for cut in self._cuts]
        return [Groups(cut.names, cut.members(column.to_numpy())) for cut, column in found if column is not None]


def profile_window(reference: ReferenceProfile, chunks: Iterable[pd.DataFrame]) -> WindowProfile:
    """The profile of some chunks in order of time."""
    window = WindowProfile(reference)
    for chunk in chunks:
        window.add(chunk)
    return window


def _logged(frame: pd.DataFrame, name: str) -> str | None:
    return next((column for column in (f"f__{name}", name) if column in frame), None)
