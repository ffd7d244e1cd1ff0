from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.expected_gain import expect_gain
from monitoring.facts import Interval, LossPoint, MonitorFacts, PerformanceFacts

NOW = datetime(2020, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def seen(*losses: float, half: float = 0.01, apart: timedelta = WEEK, **changes: object) -> MonitorFacts:
    points = tuple(
        LossPoint(at=NOW - (len(losses) - 1 - i) * apart, rows=1000, log_loss=loss) for i, loss in enumerate(losses)
    )
    newest = losses[-1] if losses else 0.5
    performance = PerformanceFacts(
        rows=1000, coverage=1.0, log_loss=Interval(value=newest, low=newest - half, high=newest + half), auc=None,
        brier=None, base_rate=0.5, from_at=NOW - WEEK, to_at=NOW,
    )  # fmt: skip
    facts = MonitorFacts(
        as_of=NOW, version="1", trained_at=NOW, last_retrain_at=None, rows=1000, reference_log_loss=0.5,
        performance=performance, losses=points, rows_per_day=10.0, look_every_s=WEEK.total_seconds(),
    )  # fmt: skip
    return facts.with_(**changes)


def test_a_loss_that_lasts_is_expected_to_last() -> None:
    gain = expect_gain(seen(0.6, 0.6, 0.6, 0.6))

    assert gain is not None
    assert gain.per_row.value == pytest.approx(0.1)
    assert gain.rows == 70
    # four windows of equal rows, half a window ahead of the newest: variance (1 + 2² · 4/5) / 4 of one window's
    assert gain.per_row.value - gain.per_row.low == pytest.approx(0.01 * ((1 + 2**2 / 1.25) / 4) ** 0.5)


def test_a_loss_that_rises_is_expected_to_rise() -> None:
    rising, falling = expect_gain(seen(0.50, 0.53, 0.56, 0.59)), expect_gain(seen(0.59, 0.56, 0.53, 0.50))

    assert rising is not None
    assert falling is not None
    assert rising.per_row.value == pytest.approx(0.59 + 0.015 - 0.5)
    assert falling.low == 0


def test_of_less_than_three_windows_the_mean_lasts() -> None:
    gain = expect_gain(seen(0.5, 0.7))

    assert gain is not None
    assert gain.per_row.value == pytest.approx(0.1)


def test_windows_that_overlap_count_once() -> None:
    daily = expect_gain(seen(*[0.6] * 8, apart=timedelta(days=1)))

    assert daily is not None
    assert daily.per_row.value - daily.per_row.low == pytest.approx(0.01 * 0.5**0.5)


def test_a_reference_of_few_rows_makes_it_less_certain() -> None:
    exact, vague = expect_gain(seen(0.6, 0.6)), expect_gain(seen(0.6, 0.6, reference_rows=10))

    assert exact is not None
    assert vague is not None
    assert exact.low > 0 == vague.low


@pytest.mark.parametrize("changes", [{"reference_log_loss": None}, {"losses": ()}])
def test_what_is_not_known_gives_no_expectation(changes: dict[str, object]) -> None:
    assert expect_gain(seen(0.6).with_(**changes)) is None


def test_without_a_measured_interval_nothing_is_certain() -> None:
    gain = expect_gain(seen(0.9).with_(performance=None))

    assert gain is not None
    assert gain.low == 0


def test_windows_that_differ_more_than_their_rows_leave_less_certain() -> None:
    usual, stormy = (0.45, 0.55, 0.46, 0.54, 0.47), (0.6, 0.6, 0.6, 0.6)
    calm, restless = expect_gain(seen(*[0.5] * 5, *stormy)), expect_gain(seen(*usual, *usual, *stormy))

    assert calm is not None
    assert restless is not None
    assert calm.low > 0
    assert restless.low == 0
    assert restless.per_row.value == pytest.approx(calm.per_row.value)


def test_a_single_jump_says_nothing_of_how_windows_differ() -> None:
    gain = expect_gain(seen(*[0.5] * 8, *[0.6] * 4))

    assert gain is not None
    assert gain.per_row.value - gain.per_row.low == pytest.approx(0.01 * ((1 + 2**2 / 1.25) / 4) ** 0.5)
