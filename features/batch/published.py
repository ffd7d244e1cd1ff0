"""Published values of batch views: how they are packed, which version a reader sees, and for how long it counts.

A value holds one version of an entity's row, or two while a publication is under way: the one that readers see and
the one they are to see. A version is the generation that brought it (int64), the moment it was true at (int64
microseconds), and its outputs (float32, NaN where one was null). Which generations readers see says one pointer per
view, so all rows of a publication appear at once.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from features.views import BatchView

Ints = npt.NDArray[np.int64]
Versions = npt.NDArray[Any]
"""Structured, of `version_dtype`."""
NEVER_US = -(2**62)
"""Moment of a row that is not there."""
TIMELESS_US = 0
"""Moment of the rows of a table without event time; they never grow stale."""
_HEAD = Struct("<qq")


@lru_cache(maxsize=1024)
def version_dtype(outputs: int) -> np.dtype[Any]:
    """A version: ``generation``, ``at_us``, ``values``."""
    return np.dtype([("generation", "<i8"), ("at_us", "<i8"), ("values", "<f4", (outputs,))])


def is_timeless(view: BatchView) -> bool:
    """Whether the view's rows have no moment."""
    return not isinstance(view.source, str) and view.source.at is None


def ttl_us(view: BatchView) -> int:
    """Age in microseconds beyond which a row no longer counts; of timeless rows, beyond any age."""
    return 2**61 if is_timeless(view) else view.ttl_us


def head(version: bytes) -> tuple[int, int]:
    """A version's generation and moment."""
    return _HEAD.unpack_from(version)


def seen(packed: bytes | None, size: int, pointer: int) -> bytes | None:
    """The version that a reader at `pointer` sees, if any.

    Args:
        packed: one or two versions, older first; None if there is no value.
        size: bytes of a version.
        pointer: the newest generation that readers see.
    """
    for start in range(len(packed or b"") - size, -1, -size):
        version = (packed or b"")[start : start + size]
        if head(version)[0] <= pointer:
            return version
    return None


def staged(packed: bytes | None, fresh: bytes, pointer: int) -> bytes:
    """The value in which readers at `pointer` see what they saw, and those at the generation of `fresh` the newest row.

    The newest is the one with the greater moment; of the same moment, the one of the later generation. With the
    pointer at that generation already, what nobody will see any more is left out.
    """
    now = seen(packed, len(fresh), pointer)
    if now is None:
        return fresh
    (generation, at_us), (now_generation, now_at_us) = head(fresh), head(now)
    if (at_us, generation) <= (now_at_us, now_generation):
        return now
    return now + fresh if generation > pointer else fresh


def batch_values(
    view: BatchView, row_at_us: Ints, rows: npt.NDArray[Any], at_us: Ints
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Published rows where they are alive and present, defaults elsewhere: the same for training and serving.

    Args:
        view: the batch view.
        row_at_us: moments of the rows, `NEVER_US` where there is none, shape (n,).
        rows: their outputs, NaN for null, shape (n, outputs).
        at_us: the readers' time, shape (n,).

    Returns:
        Values (n, outputs), which rows are unknown (n,), which are stale (n,).
    """
    unknown = row_at_us == NEVER_US
    stale = ~unknown & (at_us - row_at_us > ttl_us(view))
    rows = rows.astype(np.float64)
    absent = (unknown | stale)[:, None] | np.isnan(rows)
    return np.where(absent, np.asarray(view.defaults, dtype=np.float64), rows), unknown, stale
