from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.discovery import UseCaseFile
from core.use_case import Policy
from features.offline.training import TrainingSet
from registry.candidate import build_candidate
from registry.gate import HoldoutScores, judge, paired_interval, score_rows
from registry.metrics import Labels
from registry.version_folder import load_version, write_version_folder

RNG = np.random.default_rng(3)
TRUTH = RNG.uniform(0.05, 0.95, 2000)
LABELS: Labels = (RNG.uniform(size=2000) < TRUTH).astype(np.int64)


def answers(blur: float, version: str = "") -> HoldoutScores:
    """Scores that know the truth up to some noise, which makes them worse."""
    noise = np.random.default_rng(5).normal(size=len(TRUTH)) * blur
    odds = np.log(TRUTH / (1 - TRUTH)) + noise
    return HoldoutScores(LABELS, (1 / (1 + np.exp(-odds))).astype(np.float32), version)


def test_a_better_challenger_is_promoted_with_the_numbers() -> None:
    decision = judge(answers(0.0), answers(1.0, "4"), Policy())
    assert decision.action == "promote"
    assert decision.evidence["champion"]["version"] == "4"
    low, high = decision.evidence["gain_interval"]
    assert 0 < low < decision.evidence["gain"] < high
    assert f"{decision.evidence['challenger']['log_loss']:.4f}" in decision.reason
    assert "2000 newest rows" in decision.reason


def test_a_clearly_worse_challenger_is_rejected() -> None:
    decision = judge(answers(1.0), answers(0.0), Policy())
    assert decision.action == "reject"
    assert decision.evidence["gain_interval"][1] < 0


def test_an_equal_challenger_is_kept() -> None:
    decision = judge(answers(0.3), answers(0.3), Policy())
    assert decision.action == "keep"
    assert decision.evidence["gain_interval"] == [0, 0]


def test_a_better_challenger_below_the_wanted_gain_is_kept() -> None:
    decision = judge(answers(0.0), answers(0.4), Policy(min_gain=0.5))
    assert decision.action == "keep"
    assert "at least 50.0% is wanted" in decision.reason


@pytest.mark.parametrize(("scores", "action"), [(TRUTH, "promote"), (1 - TRUTH, "reject"), (0 * TRUTH + 0.9, "reject")])
def test_a_first_version_must_beat_the_base_rate(scores: Any, action: str) -> None:
    decision = judge(HoldoutScores(LABELS, scores.astype(np.float32)), None, Policy())
    assert decision.action == action
    assert decision.reason.startswith("first version")


def test_the_decision_repeats_and_is_json() -> None:
    first, second = (judge(answers(0.0), answers(0.5), Policy()) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(dict(first.evidence))) == first.evidence


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [
        (HoldoutScores(LABELS[:0], TRUTH[:0]), None),
        (HoldoutScores(LABELS, TRUTH[:-1]), None),
        (HoldoutScores(LABELS, TRUTH), HoldoutScores(1 - LABELS, TRUTH)),
        (HoldoutScores(LABELS, TRUTH), HoldoutScores(LABELS, TRUTH[:-1])),
    ],
)
def test_other_rows_are_refused(challenger: HoldoutScores, champion: HoldoutScores | None) -> None:
    with pytest.raises(ValueError, match=r"same rows|cannot judge"):
        judge(challenger, champion, Policy())


@given(st.integers(1, 400), st.floats(-1, 1))
def test_the_interval_is_around_the_mean(n: int, shift: float) -> None:
    differences = np.random.default_rng(n).normal(size=n) + shift
    low, high = paired_interval(differences)
    assert differences.min() - 1e-9 <= low <= high <= differences.max() + 1e-9


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        low, high = paired_interval(np.random.default_rng(seed).normal(size=300))
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_many_rows_are_resampled_in_bounded_memory() -> None:
    low, high = paired_interval(np.random.default_rng(0).normal(loc=1.0, size=50_000))
    assert 0.98 < low < high < 1.02


def test_the_champion_is_scored_with_its_own_features(
    use_case_file: UseCaseFile, make_rows: Callable[..., TrainingSet], tmp_path: Any
) -> None:
    from datetime import UTC, datetime

    rows = make_rows()
    candidate = build_candidate(use_case_file, rows)
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=datetime(2019, 2, 8, tzinfo=UTC))
    champion = load_version(tmp_path / "v")
    asked: list[str] = []

    def build_matrix(use_case: Any, requests: Any) -> Any:
        asked.append(use_case.name)
        assert use_case is champion.use_case_file.use_case
        return candidate.holdout.X

    scored = score_rows(champion, candidate.holdout.requests, candidate.holdout.y, build_matrix)
    assert asked == ["tiny"]
    assert np.array_equal(scored.scores, candidate.holdout.scores)
