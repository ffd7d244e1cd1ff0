from __future__ import annotations

import numpy as np
import pytest

from monitoring.bins import ColumnBins


def distance(bins: ColumnBins, ours: np.ndarray, theirs: np.ndarray) -> float:
    curves = [bins.curve(np.bincount(bins.index(side), minlength=bins.size)).values for side in (ours, theirs)]
    return float(np.abs(np.nan_to_num(curves[0]) - np.nan_to_num(curves[1])) @ bins.distance_weights)


@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0])
def test_a_shift_is_measured_in_standard_deviations(shift: float) -> None:
    values = np.random.default_rng(1).normal(5, 3, 50_000).astype(np.float32)
    bins = ColumnBins.of_numbers("x", values)
    moved = (values + np.float32(shift * 3)).astype(np.float32)
    assert distance(bins, moved, values) == pytest.approx(shift, rel=0.08)


def test_one_absurd_value_neither_decides_the_unit_nor_the_distance() -> None:
    values = np.random.default_rng(1).normal(0, 1, 10_000).astype(np.float32)
    bins = ColumnBins.of_numbers("x", np.r_[values, np.float32(1e9)])
    assert bins.scale == pytest.approx(1, rel=0.05)
    assert distance(bins, np.r_[values, np.float32(-1e12)], values) < 0.01


def test_every_value_has_one_bin_also_those_no_reference_has() -> None:
    values = np.array([1, 2, 2, 3, np.nan], dtype=np.float32)
    odd = np.array([-np.inf, 0, 1, 2, 3, 4, np.inf, np.nan], dtype=np.float32)
    assert ColumnBins.of_numbers("x", values).index(odd).tolist() == [0, 0, 1, 2, 3, 4, 4, 5]
    assert ColumnBins.of_codes("x", values).index(odd).tolist() == [3, 3, 0, 1, 2, 3, 3, 4]


def test_codes_differ_by_total_variation() -> None:
    theirs = np.repeat(np.array([1, 2], dtype=np.float32), [60, 40])
    bins = ColumnBins.of_codes("x", theirs)
    assert distance(bins, np.repeat(np.array([1, 7], dtype=np.float32), [60, 40]), theirs) == pytest.approx(0.4)


@pytest.mark.parametrize("values", [[np.nan] * 9, [4.0] * 9])
def test_a_column_without_variation_can_still_move(values: list[float]) -> None:
    column = np.array(values, dtype=np.float32)
    bins = ColumnBins.of_numbers("x", column)
    assert distance(bins, column, column) == 0
    assert distance(bins, np.arange(9, dtype=np.float32) + 10, column) > 0.3


@pytest.mark.parametrize("kind", ["number", "code"])
def test_drawn_errors_have_the_variance_of_sampled_curves(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 5, 4_000).astype(np.float32)
    values[:400] = np.nan
    bins = ColumnBins.of_numbers("x", values) if kind == "number" else ColumnBins.of_codes("x", values)
    usual = bins.curve(np.bincount(bins.index(values), minlength=bins.size)).values
    samples = rng.choice(values, (3_000, 100))
    sampled = bins.curve(np.stack([np.bincount(bins.index(sample), minlength=bins.size) for sample in samples])).values
    drawn = bins.noise(usual, np.full(usual.shape, 0.01), rng.standard_normal((3_000, bins.size), dtype=np.float32))
    wide = sampled.std(axis=0) > 0
    assert drawn.std(axis=0)[wide] == pytest.approx(sampled.std(axis=0)[wide], rel=0.1)
