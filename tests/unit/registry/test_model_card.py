"""A version's card fits into MLflow, and leaves out what matters least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.decision import Decision
from core.discovery import UseCaseFile
from features.offline.training import TrainingSet
from registry.candidate import Candidate, build_candidate
from registry.gate import HoldoutScores, judge, with_evidence
from registry.model_card import EXPERIMENT, MOST_CHARACTERS, RUN, Predecessor, model_card, placed
from registry.plots import draw_drift
from registry.version_folder import write_version_folder
from registry.versions import VersionInfo

AS_OF = datetime(2019, 2, 8, tzinfo=UTC)
TESTS = {"failed": [], "results": [{"name": "auc ≥ 0.6", "passed": True, "required": True, "said": "it is 0.9"}]}


@pytest.fixture
def candidate(use_case_file: UseCaseFile, make_rows: Callable[..., TrainingSet]) -> Candidate:
    return build_candidate(use_case_file, make_rows())


@pytest.fixture
def verdict(candidate: Candidate) -> Decision:
    """Won against a champion that answers halves, with two segments."""
    labels, half = candidate.holdout.y, candidate.holdout.scores * 0 + 0.5
    policy = candidate.use_case_file.use_case.policy
    policy = replace(policy, gate=replace(policy.gate, min_segment_rows=10))
    shops = (labels * 0 + [i % 2 for i in range(len(labels))]).astype(object)
    champion = HoldoutScores(labels, half, "3")
    won = judge(HoldoutScores(labels, candidate.holdout.scores), champion, policy, segments={"shop": shops})
    return with_evidence(won, model_tests=TESTS)


def info(candidate: Candidate, reason: str = "drift: fare moved") -> VersionInfo:
    return VersionInfo(
        digest="d1", as_of=AS_OF, reason=reason, fingerprint="f1", log_loss=0.4, git_commit="b" * 40,
        params={**candidate.params, "estimator.C": "2.0"},
    )  # fmt: skip


def predecessor(candidate: Candidate, columns: tuple[str, ...]) -> Predecessor:
    params = {**candidate.params, "estimator.C": "1.0"}
    return Predecessor("3", AS_OF, params, candidate.profile, {"columns": list(columns)}, "a" * 40)


def card(candidate: Candidate, verdict: Decision, **how: Any) -> str:
    given = {"before": predecessor(candidate, ("size", "count", "old")), "digests": {"model.onnx": "ab" * 32}}
    use_case = candidate.use_case_file.use_case
    return model_card(use_case, candidate.profile, info(candidate), verdict=verdict, **{**given, **how})


def test_a_card_says_what_changed_why_and_what_to_do(candidate: Candidate, verdict: Decision) -> None:
    said = card(candidate, verdict, plots=("drift.png", "gate.html"))

    for part in (
        "**Trained because:** drift: fare moved", "**Promoted.** log-loss", "| this | champion 3 | change |",
        "+ noise, − old", "estimator.C 1.0 → 2.0", "`aaaaaaaaaaaa` → `bbbbbbbbbbbb`",
        "| auc ≥ 0.6 | passed | it is 0.9 |",
        "| shop=0 |", f"![what moved since the champion](get-artifact?path=plots/drift.png&run_uuid={RUN})",
        f"#/experiments/{EXPERIMENT}/runs/{RUN}/artifacts", "| `model.onnx` | `abababababababab…` |",
        "evergreen promote tiny VERSION",
    ):  # fmt: skip
        assert part in said, said
    assert "gate.html" not in said


def test_links_lead_to_the_run_once_there_is_one(candidate: Candidate, verdict: Decision) -> None:
    said = placed(card(candidate, verdict, plots=("drift.png",)), run_id="r7", experiment_id="e2")
    assert "run_uuid=r7" in said and "#/experiments/e2/runs/r7/artifacts" in said
    assert RUN not in said and EXPERIMENT not in said


def test_a_card_that_is_too_long_loses_what_matters_least(candidate: Candidate, verdict: Decision) -> None:
    digests = {f"file-{i}.json": "ab" * 32 for i in range(120)}
    said = card(candidate, verdict, digests=digests, plots=("drift.png",))
    assert len(said) <= MOST_CHARACTERS
    assert "## Files" not in said and "## Pictures" in said and "## Lineage" in said

    long = info(candidate, reason="because " * 2000)
    said = model_card(candidate.use_case_file.use_case, candidate.profile, long, verdict=verdict)
    assert len(said) <= MOST_CHARACTERS and "…" in said and "## Lineage" in said


def test_a_first_version_is_compared_with_nothing(candidate: Candidate) -> None:
    first = judge(
        HoldoutScores(candidate.holdout.y, candidate.holdout.scores), None, candidate.use_case_file.use_case.policy
    )
    said = card(candidate, first, before=None)
    assert "log-loss of the base rate" in said and "## Changed" not in said and "## Segments" not in said


def test_what_moved_since_the_champion_is_drawn(candidate: Candidate, tmp_path: Path) -> None:
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    draw_drift(tmp_path / "v" / "reference.parquet", candidate, tmp_path / "drift.png")
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
