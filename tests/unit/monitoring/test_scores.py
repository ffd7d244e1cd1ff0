from __future__ import annotations

import numpy as np
import pytest

from monitoring.calibration import least_score
from monitoring.scores import Scale, evidence
from monitoring.shrinkage import squeeze


def test_one_column_that_stands_out_is_worth_its_score() -> None:
    alone = np.zeros(30)
    alone[4] = 6.0
    assert evidence(alone) == pytest.approx(6.0, abs=0.1)
    assert evidence(np.array([200.0])) == pytest.approx(200.0)


def test_several_that_stand_out_are_worth_more() -> None:
    one, three = np.zeros((2, 30))
    one[0], three[:3] = 3.5, 3.5
    assert evidence(three) > evidence(one) + 1
    assert evidence(np.stack([one, three])).tolist() == [evidence(one), evidence(three)]


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_scores_are_those_of_a_normal_number(power: float) -> None:
    drawn = 5 + 3 * np.abs(np.random.default_rng(1).standard_normal(50_000)) ** power
    scale = Scale.of(drawn)
    score = scale.score(drawn)
    assert np.median(score) == pytest.approx(0.674, abs=0.02)
    assert np.quantile(score, 0.98) == pytest.approx(2.326, abs=0.05)
    assert scale.score(np.array(scale.size(3.0))) == pytest.approx(3.0)


def test_columns_alike_lend_each_other_certainty_and_others_do_not() -> None:
    rng, df = np.random.default_rng(1), np.full(40, 10.0)
    drawn = rng.chisquare(10, 40) / 10
    alike, alike_df = squeeze(drawn, df)
    assert np.ptp(alike) < 0.3 * np.ptp(drawn)
    assert alike_df[0] > 50
    different = drawn * 10.0 ** np.linspace(-3, 3, 40)
    kept, kept_df = squeeze(different, df)
    assert np.corrcoef(np.log(kept), np.log(different))[0, 1] > 0.99
    assert kept_df[0] < 15


def test_a_column_that_never_moves_says_nothing_of_the_others() -> None:
    found, df = squeeze(np.array([0.0, 1.0, 1.0, 1.0]), np.array([9.0, 9.0, 9.0, 9.0]))
    assert found[0] == 0.0
    assert df[0] == 9.0
    assert found[1] == pytest.approx(1.0, abs=0.2)


def test_a_tenth_of_the_names_may_be_wrong() -> None:
    rng = np.random.default_rng(1)
    wrong = []
    for _ in range(300):
        scores = np.abs(rng.standard_normal(30) + np.r_[np.full(5, 5.0), np.zeros(25)])
        named = scores >= least_score(scores)
        wrong.append(named[5:].sum() / named.sum())
    assert 0.05 < np.mean(wrong) < 0.11


def test_the_furthest_is_always_named() -> None:
    assert least_score(np.array([1.0, 0.5])) == 1.0
