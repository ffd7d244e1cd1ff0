from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from monitoring.bins import ColumnBins
from monitoring.profile import Histograms
from monitoring.seasons import DAY_S, HOUR_S, WEEK_S, Grid
from monitoring.variation import Variation, growth, variation

DAILY = Grid(DAY_S, 7)


@pytest.fixture
def vary() -> Callable[..., Variation | None]:
    """The variation of a column whose days have these means, 200 rows each."""

    def found(means: np.ndarray, window_blocks: int = 7) -> Variation | None:
        rng = np.random.default_rng(1)
        values = (means[:, None] + rng.standard_normal((means.size, 200))).astype(np.float32)
        bins = ColumnBins.of_numbers("x", values.ravel())
        counts = np.stack([np.bincount(bins.index(day), minlength=bins.size) for day in values])
        return variation(bins, Histograms((bins,), counts), DAILY, 0, window_blocks)

    return found


def spread(found: Variation | None) -> float:
    """The mean distance that the stretches' own variation makes."""
    assert found is not None
    return float(np.abs(found.beyond_sampling()).mean())


def test_what_sampling_explains_is_no_variation(vary: Callable[..., Variation | None]) -> None:
    still, restless = vary(np.zeros(120)), vary(np.random.default_rng(2).normal(0, 0.3, 120))
    assert spread(still) < 0.2 * spread(restless)


def test_a_weekly_wave_is_no_variation(vary: Callable[..., Variation | None]) -> None:
    week = np.sin(2 * np.pi * np.arange(120) / 7)
    assert spread(vary(week, 1)) < 0.1 * spread(vary(np.random.default_rng(2).permutation(week), 1))


def test_what_moves_slowly_may_move_on_unless_a_year_has_shown_how_far(vary: Callable[..., Variation | None]) -> None:
    slow, year = vary(np.linspace(0, 2, 90)), vary(np.sin(np.arange(365) * 2 * np.pi / 365))
    assert slow is not None
    assert year is not None
    assert slow.exponent > 1.5
    assert growth(slow, 90, 60) == pytest.approx(2.0 ** (slow.exponent / 2))
    assert growth(slow, 90, 10) == 1.0
    assert year.exponent == 0.0


def test_deviations_are_given_the_variance_that_sampling_leaves(vary: Callable[..., Variation | None]) -> None:
    restless = vary(np.random.default_rng(2).normal(0, 0.3, 120))
    assert restless is not None
    assert restless.scale(restless.seen) < 1
    assert restless.scale(restless.sampled / 2) == 0
    assert restless.scale(4 * restless.seen) == pytest.approx(2, rel=0.2)


def test_rows_more_even_than_chance_makes_them_have_smaller_errors(vary: Callable[..., Variation | None]) -> None:
    found = vary(np.zeros(120))
    assert found is not None
    assert found.share(found.sampled / 4) == pytest.approx(0.5)
    assert found.share(4 * found.sampled) == 1.0


def test_stretches_in_a_row_are_as_alike_as_they_move_slowly(vary: Callable[..., Variation | None]) -> None:
    restless, slow = vary(np.random.default_rng(2).normal(0, 0.3, 240)), vary(np.sin(np.arange(240) / 40))
    assert restless is not None and restless.alike is not None and abs(restless.alike) < 0.3
    assert slow is not None and slow.alike is not None and slow.alike > 0.8


def test_too_short_a_reference_says_nothing_of_variation(vary: Callable[..., Variation | None]) -> None:
    assert vary(np.zeros(2), 1) is None


@pytest.mark.parametrize(
    ("span_s", "grid"),
    [
        (DAY_S, Grid(HOUR_S, 1)),
        (5 * DAY_S, Grid(HOUR_S, 24)),
        (10 * DAY_S, Grid(6 * HOUR_S, 4)),
        (60 * DAY_S, Grid(6 * HOUR_S, 28)),
        (400 * DAY_S, Grid(DAY_S, 7)),
        (3_000 * DAY_S, Grid(WEEK_S, 1)),
    ],
)
def test_blocks_suit_the_length_of_the_reference(span_s: float, grid: Grid) -> None:
    assert Grid.over(span_s) == grid
