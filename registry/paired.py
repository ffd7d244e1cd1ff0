"""How far the mean of paired differences can be told from nothing, on rows that follow one another in time."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy ships no types

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
POWER = 0.95
_SEED = 0
_MOST_BLOCKS, _FEWEST_BLOCKS = 20, 12
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PairedMean:
    """The mean of paired differences, and what is known of it.

    Args:
        rows: how many differences.
        mean: theirs.
        low: the mean is above it with the confidence asked for ...
        high: ... and below this one with the same confidence, each bound for itself.
        standard_error: of the mean, by blocks.
        critical: how many standard errors the mean must be above zero so that `low` is, too.
        block_rows: neighbours drawn together.
    """

    rows: int
    mean: float
    low: float
    high: float
    standard_error: float
    critical: float
    block_rows: int

    def __post_init__(self) -> None:
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"{self.mean} is not within {self.low} to {self.high}")


def paired_mean(differences: Floats, confidence: float, *, resamples: int = RESAMPLES) -> PairedMean:
    """Bound the mean of differences that are in order of time, and may depend on their neighbours.

    Blocks of neighbours are drawn on a circle, and the mean of each draw is divided by its own standard error, which
    keeps the level with skewed differences and few blocks. A block is at least a twentieth of the rows, so that what
    lasts shorter needs not be known, and at most a twelfth; in between, as long as the rows' autocorrelation asks
    for. No bound is closer than Student's for as many means, which are wider with heavy tails. The seed is fixed: the
    same differences give the same bounds.

    Source: Politis & Romano (1992), circular block bootstrap; Götze & Künsch (1996), studentised by blocks;
        Politis & White (2004) with the correction of Patton, Politis & White (2009), length of blocks;
        Schmeiser (1982), Student's bounds, and why some ten to thirty batches are enough.

    Args:
        differences: float64 (n,), the better one's loss taken from the other's, e.g.
        confidence: of each bound, in (0.5, 1).
        resamples: draws.

    Raises:
        ValueError: without rows.

    Example:
        >>> known = paired_mean(np.array([0.1, 0.3] * 200), 0.95)
        >>> known.low > 0.19, known.high < 0.21
        (True, True)
    """
    n = len(differences)
    if not n:
        raise ValueError("there are no differences")
    length = _block_rows(differences)
    mean, error = float(differences.mean()), _standard_error(differences, length)
    # what is this small is the rounding of differences that are all the same
    if error <= 1e-12 * max(abs(mean), float(np.abs(differences).max())):
        return PairedMean(n, mean, mean, mean, 0.0, NormalDist().inv_cdf(confidence), length)
    drawn = _studentised(differences, mean, length, resamples)
    least = float(stdtrit(max(-(-n // length) - 1, 1), confidence))
    lower, upper = (float(q) for q in np.quantile(drawn, [1 - confidence, confidence]))
    lower, upper = min(lower, -least), max(upper, least)
    return PairedMean(n, mean, mean - upper * error, mean - lower * error, error, upper, length)


def detectable(standard_error: float, critical: float, power: float = POWER) -> float:
    """The smallest true mean that is told from nothing with this power. Source: Bloom (1995)."""
    return (critical + NormalDist().inv_cdf(power)) * standard_error


def rows_to_detect(
    effect: float, standard_error: float, rows: int, critical: float, power: float = POWER
) -> int | None:
    """How many rows in all it takes to tell a true mean of `effect` from nothing; None if it is not above zero.

    The standard error falls with the square root of the rows.

    Example:
        >>> rows_to_detect(0.5, standard_error=0.5, rows=100, critical=1.645)
        1083
    """
    if effect <= 0:
        return None
    return int(np.ceil(rows * (detectable(standard_error, critical, power) / effect) ** 2))


def drawn_means(values: Floats, block_rows: int, resamples: int) -> Floats:
    """Column means of draws of circular blocks, float64 (resamples, m), for values float64 (n, m) in order of time."""
    means: Floats = _block_means(values, block_rows)[_starts(len(values), block_rows, resamples)].mean(axis=1)
    return means


def _starts(n: int, block_rows: int, resamples: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(0, n, (resamples, -(-n // block_rows)))


def _block_means(values: Floats, length: int) -> Floats:
    """Mean of the block that begins at each row, on a circle."""
    sums = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values, values[: length - 1]]), axis=0)
    means: Floats = (sums[length:] - sums[:-length]) / length
    return means


def _standard_error(differences: Floats, length: int) -> float:
    n = len(differences)
    if n < 2:
        return 0.0
    spread = float(np.var(_block_means(differences, length)))
    return float(np.sqrt(spread * length / n / (1 - length / n)))  # block means vary about the rows' own mean


def _studentised(differences: Floats, mean: float, length: int, resamples: int) -> Floats:
    means, found = _block_means(differences, length), []
    starts = _starts(len(differences), length, resamples)
    blocks = starts.shape[1]
    at_once = max(1, _CELLS_AT_ONCE // blocks)
    for start in range(0, resamples, at_once):
        drawn = means[starts[start : start + at_once]]
        errors = drawn.std(axis=1, ddof=1) / np.sqrt(blocks)
        # a draw of one block over and over tells nothing of its error
        found.append((drawn.mean(axis=1) - mean)[errors > 0] / errors[errors > 0])
    return np.concatenate([*found, [0.0]])


def _block_rows(differences: Floats) -> int:
    n = len(differences)
    shortest, longest = max(1, n // _MOST_BLOCKS), max(1, n // _FEWEST_BLOCKS)
    return int(np.clip(_asked_for_rows(differences), shortest, longest))


def _asked_for_rows(differences: Floats) -> float:
    """Length of blocks for which the variance of the mean is estimated best; 1 if neighbours do not depend."""
    n = len(differences)
    if n < _MOST_BLOCKS:
        return 1.0
    silent = max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    lags = int(np.ceil(np.sqrt(n))) + silent
    centred = differences - differences.mean()
    padded = np.fft.rfft(centred, 1 << (2 * n - 1).bit_length())
    covariance = np.fft.irfft(np.abs(padded) ** 2)[: lags + 1] / n
    if covariance[0] <= 0:
        return 1.0
    small = np.abs(covariance[1:]) < 2 * np.sqrt(np.log10(n) / n) * covariance[0]
    quiet = np.lib.stride_tricks.sliding_window_view(small, silent).all(axis=1)
    reach = 2 * max(1, int(np.argmax(quiet)) if quiet.any() else lags - silent)
    used = np.arange(1, min(reach, lags) + 1)
    window = np.clip(2 * (1 - used / reach), 0, 1) * covariance[used]
    level = covariance[0] + 2 * window.sum()
    slope = 2 * float((window * used).sum())
    return float((1.5 * slope**2 / max(level**2, 1e-300)) ** (1 / 3) * n ** (1 / 3))
