"""Estimates hit what they estimate while scores keep their meaning, and say so when they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from core.losses import auc, log_loss
from monitoring.estimate import estimate
from monitoring.expected_loss import CONFIDENCE, DIRECT, fitting_method, folds
from monitoring.facts import EstimateFacts, Interval

START = datetime(2019, 1, 1, tzinfo=UTC)


def answered(n: int, *, day: float = 0.0, seed: int = 0, shift: float = 0.0, meaning: float = 0.0) -> pd.DataFrame:
    """Labelled predictions of a version whose log-odds are x.

    Args:
        day: when they begin.
        shift: of x, which the scores follow: covariate drift.
        meaning: of the log-odds of a one at a given score: concept drift.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.2, n)
    chance = 1 / (1 + np.exp(-x - meaning))
    return pd.DataFrame(
        {
            "at": pd.date_range(START + timedelta(days=day), periods=n, freq="min"),
            "f__x": x.astype(np.float32),
            "score": 1 / (1 + np.exp(-x)),
            "label": (rng.random(n) < chance).astype(float),
        }
    )


def out(rows: pd.DataFrame) -> pd.DataFrame:
    """The same before the labels came."""
    return rows.drop(columns="label")


def realised(rows: pd.DataFrame) -> float:
    return log_loss(rows["label"].to_numpy(), rows["score"].to_numpy())


def a_version_whose_score_says_little(n: int, *, day: float = 0.0, seed: int = 0, hard: float = 0.5) -> pd.DataFrame:
    """Where f__hard is 1 a high score means a zero: shares of ones fall and rise with the score."""
    rng = np.random.default_rng(seed)
    is_hard = rng.random(n) < hard
    score = np.where(is_hard, rng.uniform(0.7, 0.9, n), rng.uniform(0.3, 0.7, n))
    chance = np.where(is_hard, 0.1, score)
    return pd.DataFrame(
        {
            "at": pd.date_range(START + timedelta(days=day), periods=n, freq="min"),
            "f__hard": is_hard.astype(np.float32),
            "score": score,
            "label": (rng.random(n) < chance).astype(float),
        }
    )


def test_it_follows_inputs_that_move() -> None:
    reference, moved = answered(3000), answered(3000, day=10, seed=2, shift=-2.0)
    usual = realised(reference)

    found = estimate(out(moved), reference, answered(3000, day=5, seed=1))

    assert found is not None
    assert (found.method, found.rows, found.blind) == (CONFIDENCE, 3000, None)
    assert abs(realised(moved) - usual) > 0.1, "or there is nothing to follow"
    assert found.log_loss.value == pytest.approx(realised(moved), abs=0.02)
    assert found.auc is not None and found.brier is not None
    label, score = moved["label"].to_numpy(), moved["score"].to_numpy()
    assert found.auc.value == pytest.approx(auc(label, score), abs=0.03)
    assert found.brier.low < float(np.mean((label - score) ** 2)) < found.brier.high
    assert (found.from_at, found.to_at) == (moved["at"].iloc[0], moved["at"].iloc[-1])


@pytest.mark.slow
def test_its_interval_holds_what_comes_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(40):
        week = answered(500, day=20, seed=3 * seed)
        found = estimate(out(week), answered(800, seed=3 * seed + 1), answered(1500, day=10, seed=3 * seed + 2))
        assert found is not None and found.blind is None
        held += found.log_loss.low <= realised(week) <= found.log_loss.high
    assert 34 <= held <= 40


def test_a_score_that_is_far_off_but_in_order_is_calibrated_first() -> None:
    def off(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(score=rows["score"] ** 3)

    reference, week = off(answered(2000)), off(answered(2000, day=10, seed=2))

    found = estimate(out(week), reference, off(answered(2000, day=5, seed=1)))

    assert found is not None
    assert (found.method, found.blind) == (CONFIDENCE, None)
    assert found.log_loss.low < realised(week) < found.log_loss.high
    score = week["score"].to_numpy()
    assert log_loss(score, score) < found.log_loss.low, "what the scores themselves expect"


def test_where_the_score_does_not_tell_the_chance_losses_are_learned_from_features() -> None:
    reference = a_version_whose_score_says_little(2000)
    week = a_version_whose_score_says_little(2000, day=10, seed=2, hard=0.2)

    found = estimate(out(week), reference, a_version_whose_score_says_little(2000, day=5, seed=1))

    assert fitting_method(reference) == DIRECT
    assert found is not None
    assert (found.method, found.auc, found.brier, found.blind) == (DIRECT, None, None, None)
    assert realised(reference) - realised(week) > 0.1
    assert found.log_loss.value == pytest.approx(realised(week), abs=0.04)


def test_concept_drift_is_named_as_soon_as_labels_show_it() -> None:
    reference, before = answered(2000), answered(1000, day=5, seed=1)
    after = [answered(1000, day=10 + i, seed=2 + i, meaning=1.5) for i in range(3)]

    unaware = estimate(out(after[0]), reference, before)
    aware = estimate(out(after[1]), reference, pd.concat([before, after[0]]))
    assert unaware is not None and aware is not None

    assert unaware.blind is None, "no label has shown it yet"
    assert unaware.log_loss.high < realised(after[0])
    assert aware.blind is not None
    assert "concept drift: the newest 1,000 labelled rows" in aware.blind
    assert f"{after[0]['label'].mean():.1%} ones" in aware.blind
    assert aware.log_loss.value == pytest.approx(realised(after[1]), abs=0.05), "it learned from the newest alone"


@pytest.mark.slow
def test_a_contradiction_that_may_be_chance_is_none() -> None:
    assert all(
        found is not None and found.blind is None
        for found in (
            estimate(out(answered(300, day=9, seed=s)), answered(400, seed=s + 50), answered(300, day=5, seed=s + 99))
            for s in range(30)
        )
    )


def test_earlier_estimates_are_held_against_what_came() -> None:
    reference, newest = answered(1000), answered(1000, day=5, seed=1)

    def earlier(value: float, rows: int = 1000) -> EstimateFacts:
        bounds = Interval(value=value, low=value - 0.05, high=value + 0.05)
        times = {"from_at": newest["at"].iloc[0].to_pydatetime(), "to_at": newest["at"].iloc[-1].to_pydatetime()}
        return EstimateFacts(method=CONFIDENCE, rows=rows, log_loss=bounds, **times)

    def seen(*estimates: EstimateFacts) -> EstimateFacts:
        found = estimate(out(answered(1000, day=9, seed=2)), reference, newest, earlier=estimates)
        assert found is not None
        return found

    truth = realised(newest)
    assert seen().realised_error is None
    assert seen(earlier(truth + 0.01), earlier(truth - 0.03)).realised_error == pytest.approx(0.02)
    assert seen(earlier(truth + 0.01)).blind is None
    assert "turned out" in (seen(earlier(truth + 0.3)).blind or "")
    unknown = earlier(truth + 0.3, rows=5000)
    assert seen(unknown).realised_error is None, "most of its labels are still out"


@pytest.mark.parametrize("labelled", [answered(0), answered(199), answered(400).assign(label=1.0)])
def test_too_little_to_learn_from_gives_none(labelled: pd.DataFrame) -> None:
    assert estimate(out(answered(100, day=9)), labelled, pd.DataFrame()) is None
    assert estimate(out(answered(100, day=9)), pd.DataFrame(), labelled) is None


def test_without_a_reference_the_newest_labels_are_learned_from() -> None:
    week = answered(1000, day=9, seed=2)

    found = estimate(out(week), pd.DataFrame(), answered(1500, day=5, seed=1))

    assert found is not None
    assert found.log_loss.value == pytest.approx(realised(week), abs=0.05)
    assert estimate(out(answered(0)), answered(1000), answered(1000)) is None


def test_a_reference_names_its_features_without_what_the_log_puts_before() -> None:
    rename = {"f__hard": "hard"}
    reference = a_version_whose_score_says_little(2000).rename(columns=rename)
    week = a_version_whose_score_says_little(500, day=9, seed=2, hard=0.2)

    found = estimate(out(week), reference, pd.DataFrame())

    assert found is not None
    assert found.method == DIRECT
    assert found.log_loss.value == pytest.approx(realised(week), abs=0.08)


def test_folds_are_stretches_that_cover_everything_once() -> None:
    tested = np.concatenate([test for _, test in folds(23)])

    assert tested.tolist() == list(range(23))
    assert all(set(train).isdisjoint(test) for train, test in folds(23))
