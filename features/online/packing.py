"""Packed window values: what one entity's key holds.

A value is the int64 position of the last log entry that touched it, then its int64 rows (see `features.tiles`), least
tile first; all little-endian. Many values are packed and unpacked at once, without a step per entity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
WORD = 8
"""Bytes of one number."""


def pack_window(position: int, rows: Ints) -> bytes:
    """One value.

    Args:
        position: of the last entry that touched it.
        rows: shape (k, width), least tile first.

    Example:
        >>> len(pack_window(7, np.zeros((2, 4), dtype=np.int64)))
        72
    """
    return np.int64(position).tobytes() + np.ascontiguousarray(rows, dtype="<i8").tobytes()


def pack_windows(positions: Ints, owner: Ints, rows: Ints) -> tuple[Ints, bytes]:
    """Many values, one after the other.

    Args:
        positions: of the last entry that touched each value, shape (n,).
        owner: which value each row belongs to, sorted, shape (k,).
        rows: shape (k, width).

    Returns:
        The length of each value in bytes, shape (n,), and all of them joined.
    """
    held = np.bincount(owner, minlength=len(positions))
    words = 1 + held * rows.shape[1]
    heads = np.cumsum(words) - words
    joined = np.empty(int(words.sum()), dtype="<i8")
    is_row = np.ones(len(joined), dtype=bool)
    is_row[heads] = False
    joined[heads] = positions
    joined[is_row] = rows.ravel()
    return words * WORD, joined.tobytes()


def unpack_windows(lengths: Ints, joined: bytes, width: int) -> tuple[Ints, Ints, Ints]:
    """The inverse of `pack_windows`.

    Args:
        lengths: of each value in bytes, shape (n,); 0 where there is none.
        joined: the values, one after the other.
        width: of a row.

    Returns:
        Positions (n,), 0 where there is no value; owners (k,), sorted; rows (k, width).
    """
    found = np.frombuffer(joined, dtype="<i8")
    words = lengths // WORD
    present = np.flatnonzero(words)
    heads = (np.cumsum(words) - words)[present]
    positions = np.zeros(len(lengths), dtype=np.int64)
    positions[present] = found[heads]
    is_row = np.ones(len(found), dtype=bool)
    is_row[heads] = False
    owner = np.repeat(present, (words[present] - 1) // width)
    return positions, owner.astype(np.int64, copy=False), found[is_row].reshape(-1, width)


def unpack_each(values: Sequence[bytes | None], width: int) -> tuple[Ints, Ints, Ints]:
    """As `unpack_windows`, of values as MGET returns them."""
    lengths = np.fromiter((len(value) if value is not None else 0 for value in values), np.int64, len(values))
    return unpack_windows(lengths, b"".join(value for value in values if value is not None), width)
