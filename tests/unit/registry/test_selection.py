from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core.policy import Policy, Selection
from registry.selection import BEGINNING, before, describe, select_rows, since

NOW = datetime(2019, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AT = np.datetime64("2019-04-01", "us") - np.arange(100, 0, -1) * np.timedelta64(1, "D")  # one row a day


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (Selection(kind="all"), 100),
        (Selection(kind="window", window=30 * DAY), 30),
        (Selection(kind="window", window=3000 * DAY), 100),
        (Selection(kind="exponential", half_life=10 * DAY), 80),
    ],
)
def test_it_takes_the_rows_it_says(selection: Selection, rows: int) -> None:
    assert len(AT) - select_rows(selection, AT, NOW).first == rows


def test_weights_halve_and_are_one_on_average() -> None:
    chosen = select_rows(Selection(kind="exponential", half_life=10 * DAY), AT, NOW)
    assert chosen.weights is not None and chosen.weights.dtype == np.float32
    assert chosen.weights.mean() == pytest.approx(1)
    assert chosen.weights[-1] / chosen.weights[-11] == pytest.approx(2)
    assert select_rows(Selection(kind="window"), AT, NOW).weights is None


def test_without_rows_there_are_no_weights() -> None:
    chosen = select_rows(Selection(kind="exponential"), AT[:0], NOW)
    assert chosen.weights is not None and len(chosen.weights) == 0


def test_the_window_with_the_lowest_validation_loss_is_taken() -> None:
    asked: list[int] = []

    def loss(first: int) -> float | None:
        asked.append(100 - first)
        return abs(100 - first - 20) / 100

    chosen = select_rows(Selection(kind="validated", window=40 * DAY), AT, NOW, loss)
    assert sorted(asked) == [10, 20, 40, 80]
    assert (len(AT) - chosen.first, chosen.window) == (20, 20 * DAY)
    assert chosen.validated == {"10": 0.1, "20": 0.0, "40": 0.2, "80": 0.6}


def test_windows_that_cannot_be_trained_on_are_passed_over() -> None:
    chosen = select_rows(
        Selection(kind="validated", window=40 * DAY), AT, NOW, lambda first: None if first > 50 else 1.0
    )
    assert len(AT) - chosen.first == 80
    nothing = select_rows(Selection(kind="validated", window=40 * DAY), AT, NOW, lambda first: None)
    assert len(AT) - nothing.first == 80


def test_windows_over_the_same_rows_are_tried_once() -> None:
    asked: list[int] = []
    select_rows(Selection(kind="validated", window=400 * DAY), AT, NOW, lambda first: asked.append(first) or 1.0)
    assert asked == [0]


def test_a_validated_window_needs_something_to_validate_with() -> None:
    with pytest.raises(ValueError, match="validation_loss"):
        select_rows(Selection(kind="validated"), AT, NOW)


def test_enough_is_fetched_for_the_widest() -> None:
    window, halving = Selection(window=60 * DAY), Selection(kind="exponential", half_life=20 * DAY)
    assert since((window,), NOW) == NOW - 60 * DAY
    assert since((window, halving), NOW) == NOW - 160 * DAY
    assert since((window, Selection(kind="validated", window=90 * DAY)), NOW) == NOW - 180 * DAY
    assert since((window, Selection(kind="all")), NOW) == BEGINNING


def test_the_old_regime_ends_where_training_begins() -> None:
    policy = Policy(training_window=60 * DAY)
    assert before(policy, NOW) == (NOW - 75 * DAY, NOW - 60 * DAY)
    assert before(Policy(selections=(Selection(kind="all"),)), NOW) is None


def test_every_kind_is_told_apart() -> None:
    kinds = ("all", "window", "exponential", "validated")
    said = {describe(Selection(kind=kind, warm_start=warm)) for kind in kinds for warm in (True, False)}
    assert len(said) == 8
