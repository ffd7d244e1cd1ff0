"""Variances of many columns, each known from few stretches, made surer by what the others have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, polygamma  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]

_SURE = 1e3
"""Degrees of freedom that count as certainty."""


def squeeze(variances: Floats, df: Floats) -> tuple[Floats, Floats]:
    """Variances drawn towards a common one, by as much as they are alike.

    Where the columns differ by no more than chance explains they come out equal and nearly certain; where they differ
    much each keeps its own.

    Args:
        variances: of each column, (d,); those not above 0 stay as they are, and say nothing of the others.
        df: degrees of freedom of each, (d,), above 0.

    Returns:
        Variances and their degrees of freedom, (d,) each.

    Source: the moderated variances of Smyth (2004), with prior and its degrees of freedom from the moments of the
    logarithms.

    Example:
        >>> found, df = squeeze(np.array([0.9, 1.0, 1.1]), np.array([4.0, 4.0, 4.0]))
        >>> bool(np.ptp(found) < 0.01), bool(df[0] > 100)
        (True, True)
    """
    told = variances > 0
    if told.sum() < 3:
        return variances, df
    half = df[told] / 2
    logs = np.log(variances[told]) - digamma(half) + np.log(half)
    beyond = float(logs.var(ddof=1) - polygamma(1, half).mean())
    prior_df = 2 * _trigamma_inverse(beyond) if beyond > 0 else _SURE
    prior_df = min(prior_df, _SURE)
    prior = float(np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2)))
    squeezed = np.where(told, (prior_df * prior + df * variances) / (prior_df + df), variances)
    return squeezed, np.where(told, prior_df + df, df)


def _trigamma_inverse(value: float) -> float:
    """Where the trigamma function has this value, above 0; Newton's steps on its reciprocal, as in Smyth (2004)."""
    at = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, at))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, at))
        at += step
        if -step / at < 1e-9:
            break
    return at
