"""Counting distinct values approximately: HyperLogLog with 128 registers of one byte, kept in 16 int64 words.

Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog" (2007), with linear counting for small counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
REGISTERS = 128
WORDS = REGISTERS // 8
_LARGEST_RANK = 40  # sums of 128 powers of two down to 2**-40 are exact in float64, in whatever order
_ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)


def hash_values(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """64 well-mixed bits of each value: objects of str, or float64."""
    import pandas as pd

    if values.dtype == object:
        return np.asarray(pd.util.hash_array(values), dtype=np.uint64)
    bits = (values.astype(np.float64) + 0.0).view(np.uint64).copy()  # adding 0.0 makes -0.0 and 0.0 alike
    with np.errstate(over="ignore"):  # splitmix64 wraps around
        bits += np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def of_each(values: npt.NDArray[Any]) -> Ints:
    """The sketch of each value on its own, shape (n,) -> (n, WORDS); that of null (NaN or "") is empty."""
    present = values != "" if values.dtype == object else ~np.isnan(values.astype(np.float64))
    register, rank = registers_and_ranks(values)
    registers = np.zeros((len(values), REGISTERS), dtype=np.uint8)
    rows = np.flatnonzero(present)
    registers[rows, register[rows]] = rank[rows]
    return registers.view(np.int64)


def registers_and_ranks(values: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """Which register each value goes to, and the rank it asks for, both of shape (n,)."""
    hashed = hash_values(values)
    register = (hashed % np.uint64(REGISTERS)).astype(np.int64)
    rest = (hashed >> np.uint64(7)) & np.uint64(2**_LARGEST_RANK - 1)
    lowest_bit = rest & (~rest + np.uint64(1))
    rank = np.log2(np.maximum(lowest_bit, 1).astype(np.float64)).astype(np.uint8) + 1
    return register, np.where(rest == 0, _LARGEST_RANK, rank).astype(np.uint8)


def union_of_runs(words: Ints, starts: Ints) -> Ints:
    """The union of each run of sketches (n, words); the runs begin at `starts`."""
    registers = np.ascontiguousarray(words).view(np.uint8)
    return np.asarray(np.maximum.reduceat(registers, starts, axis=0).view(np.int64))


def estimate(words: Ints) -> npt.NDArray[np.float64]:
    """About how many distinct values each sketch (n, WORDS) has seen, as whole numbers."""
    registers = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), REGISTERS)
    raw = _ALPHA * REGISTERS**2 / np.ldexp(1.0, -registers.astype(np.int32)).sum(axis=1)
    empty = (registers == 0).sum(axis=1)
    counted = REGISTERS * np.log(REGISTERS / np.maximum(empty, 1))
    return np.asarray(np.rint(np.where((raw <= 2.5 * REGISTERS) & (empty > 0), counted, raw)))
