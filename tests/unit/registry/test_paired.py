from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.paired import detectable, drawn_means, paired_mean, rows_to_detect


@given(st.integers(1, 400), st.floats(-1, 1))
def test_the_bounds_are_around_the_mean(n: int, shift: float) -> None:
    differences = np.random.default_rng(n).normal(size=n) + shift
    known = paired_mean(differences, 0.95, resamples=100)
    assert known.low <= known.mean <= known.high
    assert known.mean == pytest.approx(differences.mean())
    assert known.block_rows >= 1 and known.critical >= 0


def skewed(rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(size=400) - 1


def dependent(rng: np.random.Generator) -> np.ndarray:
    steps = rng.normal(size=700)
    found = np.zeros(700)
    for i in range(1, 700):
        found[i] = 0.7 * found[i - 1] + steps[i]
    return found[300:]


@pytest.mark.parametrize("kind", [skewed, dependent])
def test_each_bound_holds_as_often_as_it_says_with_skew_and_with_dependence(kind: object) -> None:
    known = [paired_mean(kind(np.random.default_rng(seed)), 0.9, resamples=300) for seed in range(200)]  # type: ignore[operator]
    for missed in (sum(each.low > 0 for each in known), sum(each.high < 0 for each in known)):
        assert 0.04 <= missed / 200 <= 0.17


def test_a_bootstrap_of_single_rows_would_not_hold_with_dependence() -> None:
    """The test above can tell: the plain standard error is far too small on such rows."""
    missed = 0
    for seed in range(200):
        rows = dependent(np.random.default_rng(seed))
        missed += rows.mean() > 1.2816 * rows.std() / np.sqrt(len(rows))
    assert missed / 200 > 0.22


def test_differences_that_are_all_the_same_are_known() -> None:
    known = paired_mean(np.full(50, 0.1), 0.95)
    assert (known.low, known.high) == (known.mean, known.mean)
    assert known.standard_error == 0


def test_the_same_differences_give_the_same_bounds() -> None:
    differences = np.random.default_rng(1).normal(size=300)
    assert paired_mean(differences, 0.95) == paired_mean(differences, 0.95)


def test_no_differences_are_refused() -> None:
    with pytest.raises(ValueError, match="no differences"):
        paired_mean(np.zeros(0), 0.95)


def test_what_is_detectable_is_detected_as_often_as_said() -> None:
    error = 1 / np.sqrt(400)
    effect = detectable(error, 1.645, power=0.9)
    found = sum(
        paired_mean(np.random.default_rng(seed).normal(size=400) + effect, 0.95, resamples=300).low > 0
        for seed in range(200)
    )
    assert 0.82 <= found / 200 <= 0.97


@given(st.floats(1e-4, 1.0), st.floats(1e-4, 1.0), st.integers(10, 10_000))
def test_with_the_rows_it_takes_the_effect_is_detectable(effect: float, error: float, rows: int) -> None:
    needed = rows_to_detect(effect, error, rows, 1.645)
    assert needed is not None
    assert detectable(error * np.sqrt(rows / needed), 1.645) <= effect * (1 + 1e-9)
    assert needed == 1 or detectable(error * np.sqrt(rows / (needed - 1)), 1.645) > effect * (1 - 1e-9)


def test_no_number_of_rows_shows_a_gain_that_is_none() -> None:
    assert rows_to_detect(0.0, 1.0, 100, 1.645) is None


@pytest.mark.parametrize(("n", "block"), [(10, 3), (10, 1), (7, 7), (100, 5)])
def test_draws_are_of_whole_blocks_on_a_circle(n: int, block: int) -> None:
    """Each row has a column of its own, so that a mean tells how often it was drawn."""
    drawn = drawn_means(np.eye(n), block, 50)
    blocks = -(-n // block)
    assert drawn.shape == (50, n)
    assert np.allclose(drawn.sum(axis=1), 1) and drawn.min() >= -1e-12
    times = drawn * blocks * block
    assert np.allclose(times, np.round(times))
    assert len(np.unique(np.round(times[:, 0]))) > 1 or block == n
