from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.discovery import UseCaseFile
from core.errors import DeploymentError, DigestMismatch
from features.offline.training import TrainingSet
from registry import version_folder
from registry.candidate import Candidate, build_candidate
from registry.digests import MANIFEST, install, sha256_of, verify_folder
from registry.plots import permutation_importance
from registry.version_folder import load_version, write_version_folder

AS_OF = datetime(2019, 2, 8, tzinfo=UTC)
FILES = {"model.onnx", "use_case.py", "feature_spec.json", "reference.parquet", "profile.json", "smoke.json", MANIFEST}


@pytest.fixture
def candidate(use_case_file: UseCaseFile, make_rows: Callable[..., TrainingSet]) -> Candidate:
    return build_candidate(use_case_file, make_rows())


def test_the_folder_holds_what_a_version_consists_of(candidate: Candidate, tmp_path: Path) -> None:
    info = write_version_folder(candidate, tmp_path / "v", reason="drift", as_of=AS_OF)
    assert {path.name for path in (tmp_path / "v").iterdir()} == FILES | {"plots"}
    pictures = {path.name for path in (tmp_path / "v" / "plots").iterdir()}
    assert pictures == {"calibration.png", "scores.png", "importance.png"}
    assert set(json.loads((tmp_path / "v" / MANIFEST).read_text())) == FILES - {MANIFEST}
    assert info.digest == verify_folder(tmp_path / "v")
    assert (info.reason, info.as_of, info.fingerprint) == ("drift", AS_OF, candidate.fingerprint)
    assert info.log_loss == candidate.profile["log_loss"] == info.metrics["log_loss"]
    assert "Will it fit?" in info.description and info.digest in info.description and "drift" in info.description


def test_the_same_rows_give_the_same_digest(
    use_case_file: UseCaseFile, make_rows: Callable[..., TrainingSet], tmp_path: Path
) -> None:
    digests = {
        write_version_folder(
            build_candidate(use_case_file, make_rows()), tmp_path / str(i), reason=f"reason {i}", as_of=AS_OF
        ).digest
        for i in range(2)
    }
    assert len(digests) == 1


def test_the_reference_holds_features_score_label_and_time(
    candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_folder, "REFERENCE_ROWS", 40)
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    reference = pd.read_parquet(tmp_path / "v" / "reference.parquet")
    assert list(reference.columns) == ["size", "count", "noise", "score", "label", "at"]
    assert len(reference) == 40
    assert np.array_equal(reference["score"], candidate.holdout.scores[-40:])
    assert str(reference["at"].dtype) == "datetime64[us, UTC]"
    assert reference["at"].iloc[-1] == candidate.holdout.requests["at"].iloc[-1]


def test_recorded_requests_are_instances_as_a_client_sends_them(candidate: Candidate, tmp_path: Path) -> None:
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    smoke = json.loads((tmp_path / "v" / "smoke.json").read_text())
    assert len(smoke["instances"]) == len(smoke["at"]) == 8
    assert set(smoke["instances"][0]) == {"shop", "size", "count", "note"}
    values = [instance["size"] for instance in smoke["instances"]]
    assert None in values and any(isinstance(value, float) for value in values)
    assert all(isinstance(instance["count"], int) for instance in smoke["instances"])
    assert {instance["note"] for instance in smoke["instances"]} == {None, "x"}
    assert datetime.fromisoformat(smoke["at"][0]).utcoffset() is not None


def test_a_loaded_version_scores_as_the_candidate_did(candidate: Candidate, tmp_path: Path) -> None:
    info = write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    loaded = load_version(tmp_path / "v", digest=info.digest)
    assert np.array_equal(loaded.scorer.score(candidate.holdout.X), candidate.holdout.scores)
    assert loaded.use_case_file.use_case.name == "tiny"
    assert loaded.spec["columns"] == ["size", "count", "noise"]
    assert loaded.profile == candidate.profile
    assert loaded.digest == info.digest


def test_nothing_of_a_changed_version_runs(candidate: Candidate, tmp_path: Path) -> None:
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    (tmp_path / "v" / "use_case.py").write_text("raise SystemExit")
    with pytest.raises(DigestMismatch, match=r"use_case\.py"):
        load_version(tmp_path / "v")


def test_another_manifest_is_not_the_registered_one(candidate: Candidate, tmp_path: Path) -> None:
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        load_version(tmp_path / "v", digest="0" * 64)


@pytest.mark.parametrize("missing", ["model.onnx", MANIFEST])
def test_a_missing_file_is_named(candidate: Candidate, tmp_path: Path, missing: str) -> None:
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    (tmp_path / "v" / missing).unlink()
    with pytest.raises(DeploymentError, match=missing.replace(".", r"\.")):
        load_version(tmp_path / "v")


@pytest.mark.parametrize("manifest", ['{"../evil": "00"}', '{"a/b": "00"}'])
def test_a_manifest_cannot_reach_outside_its_folder(tmp_path: Path, manifest: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(DeploymentError, match="no plain file name"):
        verify_folder(tmp_path)


@pytest.mark.parametrize("manifest", ["", "[]", "not json"])
def test_a_broken_manifest_is_named(tmp_path: Path, manifest: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(DeploymentError, match="incomplete"):
        verify_folder(tmp_path)


def test_a_failed_download_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "old").write_text("old")
    with pytest.raises(DeploymentError):
        install(tmp_path / "into", "0" * 64, lambda fresh: (fresh / "half").write_text("half"))
    assert [path.name for path in tmp_path.iterdir()] == ["into"]
    assert (tmp_path / "into" / "old").read_text() == "old"


def test_a_column_without_information_has_no_importance(candidate: Candidate) -> None:
    rises = permutation_importance(candidate)
    assert rises.shape == (3,)
    assert rises[0] > 0.1 > abs(rises[2])


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_of(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_further_files_are_listed_and_verified_like_the_others(candidate: Candidate, tmp_path: Path) -> None:
    write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF, extras={"more.json": b"{}"})
    assert json.loads((tmp_path / "v" / MANIFEST).read_text())["more.json"] == sha256_of(tmp_path / "v" / "more.json")
    (tmp_path / "v" / "more.json").write_bytes(b"[]")
    with pytest.raises(DigestMismatch, match=r"more\.json"):
        verify_folder(tmp_path / "v")
