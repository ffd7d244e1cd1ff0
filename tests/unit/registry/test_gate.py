from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.discovery import UseCaseFile
from core.policy import GatePolicy
from core.use_case import Policy
from features.offline.training import TrainingSet
from registry import metrics
from registry.candidate import build_candidate
from registry.gate import HoldoutScores, judge, score_rows, with_latency
from registry.metrics import Labels
from registry.verdict import rejudge, shortfall
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
    assert decision.evidence["gain_interval"][0] > 0


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


def rows(n: int, *, seed: int = 0) -> tuple[Labels, Any]:
    """Labels, and the odds behind them."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=n)
    return (rng.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(np.int64), odds


def scored(labels: Labels, odds: Any, **known: Any) -> HoldoutScores:
    return HoldoutScores(labels, (1 / (1 + np.exp(-odds))).astype(np.float32), **known)


def test_an_undecided_verdict_says_how_many_labels_it_takes() -> None:
    labels, odds = rows(800)
    noise = np.random.default_rng(1).normal(size=(2, 800))
    decision = judge(scored(labels, odds + 0.5 * noise[0]), scored(labels, odds + 0.55 * noise[1]), Policy())
    assert decision.action == "keep" and decision.evidence["gain"] > 0
    told = shortfall(decision.evidence)
    assert f"needs {told['more_labels']:,} more labels to tell" in decision.reason
    assert told["gain"] > decision.evidence["gain"]
    known = decision.evidence["test"]
    with_them = known["standard_error"] * np.sqrt(800 / (800 + told["more_labels"]))
    assert decision.evidence["gain"] >= (known["critical"] + 1.6448) * with_them


def test_a_few_rows_tell_nothing() -> None:
    labels, odds = rows(20)
    decision = judge(scored(labels, odds), scored(labels, -odds), Policy())
    assert decision.action == "keep"
    assert "at least 30 rows are needed" in decision.reason


def test_the_best_of_several_must_be_told_more_surely() -> None:
    labels, odds = rows(2000)
    noise = np.random.default_rng(1).normal(size=2000)
    alone, best = (judge(scored(labels, odds), scored(labels, odds + 0.3 * noise), Policy(), tried=k) for k in (1, 9))
    assert best.evidence["confidence"] == pytest.approx(1 - 0.05 / 9)
    assert best.evidence["gain_interval"][0] < alone.evidence["gain_interval"][0]


def test_a_segment_that_is_worse_beyond_its_interval_keeps_a_winner_from_being_promoted() -> None:
    labels, odds = rows(3000)
    vendor = np.where(np.arange(3000) % 5 == 0, 1.0, 2.0)
    weaker = odds + np.where(vendor == 1, 0.0, 2.0) * np.random.default_rng(1).normal(size=3000)
    spoilt = np.where(vendor == 1, -odds, odds)
    found = judge(scored(labels, spoilt), scored(labels, weaker), Policy(), segments={"vendor": vendor})
    assert found.evidence["gain_interval"][0] > 0 and found.action == "keep"
    assert "vendor=1 is" in found.reason and "on 600 rows, 10% is allowed" in found.reason
    fair = judge(scored(labels, odds), scored(labels, weaker), Policy(), segments={"vendor": vendor})
    assert fair.action == "promote" and [part["rows"] for part in fair.evidence["segments"]] == [600, 2400]


def test_a_small_segment_has_no_say() -> None:
    labels, odds = rows(3000)
    vendor = np.where(np.arange(3000) < 150, 1.0, 2.0)
    weaker = odds + np.random.default_rng(1).normal(size=3000)
    spoilt = np.where(vendor == 1, -odds, odds)
    found = judge(scored(labels, spoilt), scored(labels, weaker), Policy(), segments={"vendor": vendor})
    assert [part["name"] for part in found.evidence["segments"]] == ["vendor=2"]


def test_worse_calibration_keeps_a_winner_from_being_promoted() -> None:
    labels, odds = rows(4000)
    weak = scored(labels, np.full(4000, np.log(labels.mean() / (1 - labels.mean()))))  # knows nothing, claims nothing
    found = judge(scored(labels, 1.7 * odds), weak, Policy())
    assert found.evidence["gain_interval"][0] > 0
    assert found.action == "keep" and "its calibration error is" in found.reason


def test_being_useless_on_the_old_regime_keeps_a_winner_from_being_promoted() -> None:
    labels, odds = rows(2000)
    past, before = rows(900, seed=1)
    weak = scored(labels, odds + np.random.default_rng(1).normal(size=2000))
    old = (scored(past, -before), scored(past, before))
    assert judge(scored(labels, odds), weak, Policy()).action == "promote"
    found = judge(scored(labels, odds), weak, Policy(), old_regime=old)
    assert found.action == "keep" and "on 900 rows from before the training window" in found.reason
    generous = Policy(gate=GatePolicy(old_regime_margin=5.0))
    assert judge(scored(labels, odds), weak, generous, old_regime=old).action == "promote"


@pytest.mark.parametrize(
    ("latency", "action"),
    [
        ({"ratio": 1.9}, "promote"), ({"ratio": 2.1}, "keep"), ({"fault": "its workers die"}, "keep"),
        ({"skipped": "TorchServe does not answer"}, "promote"),
    ],
)  # fmt: skip
def test_a_staged_version_may_not_be_much_slower(latency: dict[str, Any], action: str) -> None:
    decision = with_latency(judge(answers(0.0), answers(1.0), Policy()), latency)
    assert decision.action == action
    assert decision.evidence["latency"] == latency
    assert judge(answers(0.0), answers(1.0), Policy(), latency_ratio=2.1).action == "keep"


def features(labels: Labels, **more: Any) -> dict[str, Any]:
    return {"noise": np.random.default_rng(2).normal(size=len(labels)).astype(np.float32), **more}


@pytest.mark.parametrize("how", ["copy", "inverse", "missing", "code", "noisy copy"])
def test_a_feature_that_knows_the_label_is_named_and_the_challenger_rejected(how: str) -> None:
    labels, odds = rows(2000)
    flips = np.random.default_rng(4).uniform(size=2000) < 0.1
    leak = {
        "copy": labels,
        "inverse": -labels,
        "missing": np.where(labels == 1, np.nan, np.random.default_rng(3).normal(size=2000)),
        "code": np.array([[3, 1, 7], [2, 9, 4]])[labels, np.arange(2000) % 3],
        "noisy copy": np.where(flips, 1 - labels, labels),
    }[how]
    found = judge(
        scored(labels, odds), scored(labels, 0.8 * odds), Policy(),
        features=features(labels, leak=leak.astype(np.float32)),
    )  # fmt: skip
    assert found.action == "reject" and found.reason.startswith("it seems to know the label: leak")
    assert found.evidence["leakage"][0]["feature"] == "leak"


def test_honest_features_raise_no_suspicion() -> None:
    labels, odds = rows(2000)
    weaker = scored(labels, odds + np.random.default_rng(1).normal(size=2000))
    honest = features(labels, odds=odds.astype(np.float32), flat=np.ones(2000, dtype=np.float32))
    assert judge(scored(labels, odds), weaker, Policy(), features=honest).action == "promote"


def test_a_gain_that_is_too_good_is_rejected_but_not_where_the_champion_broke_down() -> None:
    labels, odds = rows(2000)
    knows = scored(labels, odds + 6 * (2 * labels - 1))
    assert judge(knows, scored(labels, odds), Policy()).action == "reject"
    strong = 6 * (2 * labels - 1) + np.random.default_rng(0).normal(size=2000) * 4
    broken = scored(labels, -strong, reference_log_loss=metrics.log_loss(labels, scored(labels, strong).scores))
    assert judge(scored(labels, strong), broken, Policy()).action == "promote"


def test_the_verdict_is_made_again_from_its_record() -> None:
    labels, odds = rows(1500)
    weaker = scored(labels, odds + np.random.default_rng(1).normal(size=1500), version="3")
    decision = judge(
        scored(labels, odds), weaker, Policy(), segments={"vendor": np.arange(1500) % 3}, features=features(labels),
        old_regime=(scored(labels, odds), weaker), latency_ratio=1.2,
    )  # fmt: skip
    recorded = json.loads(json.dumps(dict(decision.evidence), allow_nan=False))
    assert rejudge(recorded) == decision
    assert rejudge(recorded, {**recorded["policy"], "min_gain": 0.9}).action == "keep"
    assert rejudge(recorded, {**recorded["policy"], "max_latency_ratio": 1.1}).action == "keep"


def test_evidence_of_an_older_release_is_refused() -> None:
    with pytest.raises(ValueError, match="the evidence has no 'policy'"):
        rejudge({"rows": 3, "gain": 0.1})


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

    answered = score_rows(champion, candidate.holdout.requests, candidate.holdout.y, build_matrix, name="7")
    assert asked == ["tiny"]
    assert np.array_equal(answered.scores, candidate.holdout.scores)
    assert answered.version == "7"
    assert answered.reference_log_loss == candidate.profile["log_loss"]
