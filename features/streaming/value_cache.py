"""Values of one view that the worker wrote lately: it alone writes them, so it need not read them again."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
_LONGEST_S = 12 * 3600
_OVERHEAD = 150
"""Bytes that a value costs beside its own, about."""


class ValueCache:
    """The newest values, in two generations: when the young one is full, or half a day old, the old one goes.

    Args:
        limit_bytes: about how much is held at most.

    Example:
        >>> cache = ValueCache(10_000)
        >>> cache.put([b"a"], [b"1"])
        >>> cache.get([b"a", b"b"])
        ([b'1', None], array([ True, False]))
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes // 2
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._bytes = 0
        self._began = time.monotonic()

    def get(self, names: Sequence[bytes]) -> tuple[list[bytes | None], Bools]:
        """The values that are held, and which of them were put less than half a day ago for the first time."""
        if time.monotonic() - self._began > _LONGEST_S:  # also after a long time without events
            self._age()
        young, old = self._young, self._old
        found = [young.get(name) for name in names]
        is_young = np.array([value is not None for value in found], dtype=bool)
        for i in np.flatnonzero(~is_young).tolist():
            found[i] = old.get(names[i])
        return found, is_young

    def put(self, names: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Hold the new values of some entities, each named once."""
        young = self._young
        replaced = [young[name] for name in names if name in young]
        young.update(zip(names, values, strict=True))
        self._bytes += sum(map(len, values)) - sum(map(len, replaced)) + (len(names) - len(replaced)) * _OVERHEAD
        if self._bytes > self._limit or time.monotonic() - self._began > _LONGEST_S:
            self._age()

    def _age(self) -> None:
        self._old, self._young, self._bytes, self._began = self._young, {}, 0, time.monotonic()
