"""A promotion is taken back when labels show it worse, and not because it was looked at often."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from core.losses import log_loss
from core.policy import AftermathPolicy
from monitoring.aftermath import (
    AftermathFacts,
    Promotion,
    always_valid_mean,
    compare_versions,
    judge_aftermath,
    judge_again,
    sample_rows,
)
from monitoring.facts import Interval

START = datetime(2019, 2, 2, tzinfo=UTC)
POLICY = AftermathPolicy()
PROMOTION = Promotion("8", "7", START)


def due(n: int, *, seed: int = 0, labelled: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """What version 8 answered, calibrated, and the chance of a one."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.1, 0.9, n)
    label = (rng.random(n) < chance).astype(float)
    frame = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in range(n)],
            "at": pd.date_range(START, periods=n, freq="min"),
            "score": chance,
            "label": np.where(rng.random(n) < labelled, label, np.nan),
        }
    )
    return frame, chance


def facts(difference: tuple[float, float, float] | None, *, labelled: int = 1000, days: float = 3) -> AftermathFacts:
    bounds = None if difference is None else Interval(value=difference[0], low=difference[1], high=difference[2])
    return AftermathFacts(
        as_of=START + timedelta(days=days), version="8", previous="7", promoted_at=START, rows=1200,
        labelled=labelled, log_loss=0.5, previous_log_loss=0.5, difference=bounds,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (facts((0.02, 0.001, 0.04)), "rollback"),
        (facts((-0.02, -0.04, -0.001)), "confirm"),
        (facts((0.0, -0.01, 0.004)), "confirm"),
        (facts((0.0, -0.01, 0.006)), "wait"),
        (facts((0.02, 0.001, 0.04), labelled=499), "wait"),
        (facts(None, labelled=499), "wait"),
        (facts(None, labelled=0, days=28), "confirm"),
        (facts((0.02, -0.01, 0.05), days=28), "confirm"),
        (facts((0.02, 0.001, 0.05), days=28), "rollback"),
    ],
)
def test_the_bounds_decide(seen: AftermathFacts, action: str) -> None:
    assert judge_aftermath(seen, POLICY).action == action


def test_the_reason_names_both_versions_and_the_numbers() -> None:
    reason = judge_aftermath(facts((0.02, 0.001, 0.04)), POLICY).reason

    assert "version 8 has a log-loss of 0.5000 on 1,000 labelled live rows, 7 would have had 0.5000" in reason
    assert "+0.0200 (+0.0010 to +0.0400): shown worse, 7 is to answer again" in reason


@pytest.mark.parametrize("seen", [facts((0.02, 0.001, 0.04)), facts(None, labelled=3), facts(None, days=40)])
def test_what_was_recorded_leads_to_the_same_decision(seen: AftermathFacts) -> None:
    policy = replace(POLICY, margin=0.02, period=timedelta(days=30))
    decision = judge_aftermath(seen, policy)

    assert judge_again(decision.evidence) == decision


def test_both_are_measured_on_the_same_labelled_rows() -> None:
    frame, chance = due(2000, labelled=0.8)
    is_labelled = frame["label"].notna().to_numpy()
    worse = np.full(is_labelled.sum(), 0.5)

    found = compare_versions(PROMOTION, frame, worse, as_of=START, policy=POLICY)

    label = frame["label"].to_numpy()[is_labelled]
    assert (found.rows, found.labelled) == (2000, is_labelled.sum())
    assert found.log_loss == pytest.approx(log_loss(label, chance[is_labelled]))
    assert found.previous_log_loss == pytest.approx(np.log(2))
    assert found.difference is not None
    assert found.difference.high < 0, "a coin is worse than the truth"
    assert found.difference.value == pytest.approx(found.log_loss - found.previous_log_loss, abs=0.02)


def test_the_order_of_rows_does_not_matter() -> None:
    frame, chance = due(1000)
    shuffled = np.random.default_rng(1).permutation(1000)

    one = compare_versions(PROMOTION, frame, chance**2, as_of=START, policy=POLICY)
    other = compare_versions(PROMOTION, frame.iloc[shuffled], (chance**2)[shuffled], as_of=START, policy=POLICY)

    assert one.difference == other.difference


@pytest.mark.parametrize("frame", [pd.DataFrame(), due(5, labelled=0.0)[0]])
def test_without_labels_there_is_no_difference(frame: pd.DataFrame) -> None:
    found = compare_versions(PROMOTION, frame, np.zeros(0), as_of=START, policy=POLICY)

    assert (found.rows, found.labelled, found.difference) == (len(frame), 0, None)
    assert "no label yet" in judge_aftermath(found, POLICY).reason


def autocorrelated(runs: int, n: int, seed: int) -> np.ndarray:
    """Differences of losses with mean 0 of which neighbours are alike, as those of one evening are."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_t(5, (runs, n))
    kernel = np.ones(5) / np.sqrt(5)
    return np.stack([np.convolve(row, kernel, mode="same") for row in steps])


def ever_above(rows: np.ndarray, shift: float) -> float:
    """Share of runs in which a look, one every 100 rows from the fewest on, finds the mean above 0."""
    looks = range(POLICY.min_rows, rows.shape[1] + 1, 100)
    found = 0
    for row in rows:
        seen = (always_valid_mean(row[:n] + shift, 1 - POLICY.confidence) for n in looks)
        found += any(bounds is not None and bounds.low > 0 for bounds in seen)
    return found / len(rows)


def test_looking_every_hour_takes_back_no_version_that_is_no_worse() -> None:
    assert ever_above(autocorrelated(400, 6000, 0), 0.0) <= 0.01


def test_a_version_that_is_worse_is_found_out() -> None:
    assert ever_above(autocorrelated(50, 6000, 1), 0.25) >= 0.95


def test_fewer_rows_than_eight_blocks_have_no_bounds() -> None:
    assert always_valid_mean(np.zeros(199), 0.05) is None
    assert always_valid_mean(np.arange(200.0) % 2, 0.05) is not None


def test_bounds_get_tighter_with_rows_and_wider_with_confidence() -> None:
    values = np.random.default_rng(0).normal(size=5000)

    def width(n: int, alpha: float) -> float:
        bounds = always_valid_mean(values[:n], alpha)
        assert bounds is not None
        return bounds.high - bounds.low

    assert width(5000, 0.01) < width(1000, 0.01)
    assert width(5000, 0.01) > width(5000, 0.05)


def test_a_sample_is_part_of_every_larger_one() -> None:
    everything = pd.DataFrame({"prediction_id": [f"p{i}" for i in range(220_000)]})

    small, large = sample_rows(everything), sample_rows(everything.iloc[:90_000])

    assert 20_000 < len(small) < 35_000
    assert set(small.index[small.index < 90_000]) <= set(large.index)
    assert len(sample_rows(everything.iloc[:50_000])) == 50_000
