"""Histograms of orders of magnitude, on the same bins for every column: what a change of unit merely shifts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PER_OCTAVE = 16
_LOWEST, _HIGHEST = -24, 40
_SIDE = (_HIGHEST - _LOWEST) * PER_OCTAVE
SIZE = 2 * _SIDE + 1
"""Bins: negative values from the largest to the smallest, zero, positive values from the smallest to the largest."""
_SAMPLE = 10_000


def count_magnitudes(values: npt.NDArray[np.float32]) -> Ints:
    """Histogram, shape (SIZE,), of 10,000 of n values at most, taken at even distances; NaN is not counted."""
    values = values[:: max(1, -(-values.size // _SAMPLE))].astype(np.float64)
    values = values[np.isfinite(values)]
    size = np.abs(values)
    with np.errstate(divide="ignore"):
        place = np.floor((np.log2(size) - _LOWEST) * PER_OCTAVE + 0.5)
    place = np.clip(np.where(size > 0, place, 0), 0, _SIDE - 1).astype(np.int64)
    signed = np.where(size > 0, np.where(values > 0, _SIDE + 1 + place, _SIDE - 1 - place), _SIDE)
    return np.bincount(signed, minlength=SIZE).astype(np.int64)


def gap(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """How far two such histograms are apart.

    The Wasserstein distance of the magnitudes other than zero, in octaves, and the differences of the shares of zeros
    and of negative values.
    """
    return float(gaps(ours[None], theirs[None])[0, 0])


def gaps(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> Floats:
    """`gap` of each of the first, shape (n, SIZE), and each of the second, shape (m, SIZE): shape (n, m)."""
    (walks, shares), (other_walks, other_shares) = _summary(ours), _summary(theirs)
    apart = [np.abs(other_walks - walk).sum(axis=1) / PER_OCTAVE for walk in walks]
    moved = [np.abs(other_shares - share).sum(axis=1) for share in shares]
    return np.asarray(np.asarray(apart) + np.asarray(moved))


def best_scale(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> tuple[float, float]:
    """By what the second would have to be multiplied to be most like the first, and the gap that remains."""
    shift = round((_mean_octave(ours) - _mean_octave(theirs)) * PER_OCTAVE)
    tried = {moved: gap(ours, shifted(theirs, moved)) for moved in range(shift - 4, shift + 5)}
    best = min(tried, key=lambda moved: (tried[moved], abs(moved)))
    return 2.0 ** (best / PER_OCTAVE), tried[best]


def shifted(counts: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
    """The histogram of the same values, multiplied by 2 ** (bins / PER_OCTAVE)."""
    moved = np.zeros_like(counts)
    moved[_SIDE] = counts[_SIDE]
    moved[_SIDE + 1 :] = _slid(counts[_SIDE + 1 :], bins)
    moved[:_SIDE] = _slid(counts[:_SIDE][::-1], bins)[::-1]
    return moved


def _slid(side: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
    slid = np.zeros_like(side)
    np.add.at(slid, np.clip(np.arange(side.size) + bins, 0, side.size - 1), side)
    return slid


def _summary(counts: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Distribution functions of the magnitudes, (n, _SIDE), and the shares of zeros and negative values, (n, 2)."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    negative = counts[:, :_SIDE]
    both = counts[:, _SIDE + 1 :] + negative[:, ::-1]
    walks = np.cumsum(both / np.maximum(both.sum(axis=1, keepdims=True), 1.0), axis=1)
    return walks, np.c_[counts[:, _SIDE], negative.sum(axis=1)] / total


def _mean_octave(counts: npt.NDArray[Any]) -> float:
    both = counts[_SIDE + 1 :] + counts[:_SIDE][::-1]
    return float(both @ np.arange(_SIDE)) / max(float(both.sum()), 1.0) / PER_OCTAVE
