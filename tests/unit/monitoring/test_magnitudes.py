from __future__ import annotations

import numpy as np
import pytest

from monitoring.magnitudes import best_scale, count_magnitudes, gap

VALUES = np.random.default_rng(1).lognormal(2, 0.7, 5_000).astype(np.float32)


@pytest.mark.parametrize("factor", [1.609, 0.01, 3600.0, -1.609])
def test_the_scale_between_two_columns_is_found(factor: float) -> None:
    signed = np.where(np.arange(VALUES.size) % 3 == 0, -VALUES, VALUES)
    scale, left = best_scale(count_magnitudes(signed * np.float32(abs(factor))), count_magnitudes(signed))
    assert scale == pytest.approx(abs(factor), rel=0.05)
    assert left < 0.05


def test_zeros_and_signs_make_a_gap_and_nulls_do_not() -> None:
    usual = count_magnitudes(VALUES)
    assert gap(count_magnitudes(np.r_[VALUES, np.full(50, np.nan, dtype=np.float32)]), usual) == pytest.approx(
        0, abs=0.02
    )
    assert gap(count_magnitudes(-VALUES), usual) == pytest.approx(1)
    assert gap(count_magnitudes(np.r_[VALUES, np.zeros(5_000, dtype=np.float32)]), usual) == pytest.approx(0.5)


def test_a_large_column_is_sampled() -> None:
    assert count_magnitudes(np.ones(123_456, dtype=np.float32)).sum() <= 10_000
