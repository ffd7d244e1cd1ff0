from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from registry.digests import verify_folder
from registry.versions import MemoryRegistry, VersionInfo
from stack import cli
from tests.torchserve_process import INSTANCE, expected_score, make_version
from tests.triton_config import parse_config


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryRegistry:
    """Two versions of ``toy``, and a folder that declares it."""
    registry = MemoryRegistry(tmp_path / "kept")
    for version in ("1", "2"):
        folder = make_version(tmp_path / "versions" / version, bias=float(version))
        info = VersionInfo(
            digest=verify_folder(folder), as_of=datetime(2019, 2, 2, tzinfo=UTC), reason="test", fingerprint="f",
            log_loss=0.5,
        )  # fmt: skip
        registry.register("toy", folder, info)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "toy.py").write_bytes((folder / "use_case.py").read_bytes())
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr("registry.mlflow_registry.MlflowRegistry", lambda url: registry)
    return registry


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["evergreen", "export", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_the_champion_is_written_as_a_repository_that_triton_loads(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    registry.set_alias("toy", "champion", "2")
    assert export(monkeypatch, "toy", "--triton", str(tmp_path / "out"), "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["use_case"], said["version"]) == ("toy", "2")
    folder = tmp_path / "out" / "toy"
    config = parse_config((folder / "config.pbtxt").read_text())
    assert list(config.version_policy.specific.versions) == [2]
    assert config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(said["model"])
    columns = json.loads((folder / "2" / "feature_spec.json").read_bytes())["columns"]
    assert list(config.input[0].dims) == [len(columns)]
    row = {"doubled": INSTANCE["amount"] * 2, "count": INSTANCE["items"]}
    matrix = np.array([[row[column] for column in columns]], dtype=np.float32)
    scores = session.run([config.output[0].name], {config.input[0].name: matrix})[0]
    assert scores.tolist() == pytest.approx([expected_score(INSTANCE, 2.0)], abs=1e-6)


def test_a_named_version_is_added_to_what_is_there(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1", "2"):
        assert export(monkeypatch, "toy", version, "--triton", str(tmp_path / "out")) == 0
    config = parse_config((tmp_path / "out" / "toy" / "config.pbtxt").read_text())
    assert list(config.version_policy.specific.versions) == [1, 2]


def test_a_version_that_was_changed_after_training_is_not_exported(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (registry.folder("toy", "1") / "model.onnx").write_bytes(b"other")
    assert export(monkeypatch, "toy", "1", "--triton", str(tmp_path / "out")) == 1
    assert "model.onnx has digest" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_champion_there_is_nothing_to_export(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(monkeypatch, "toy", "--triton", str(tmp_path / "out")) == 1
    assert "no champion yet" in capfd.readouterr().err
    assert export(monkeypatch, "nobody", "--triton", str(tmp_path / "out")) == 2
    assert export(monkeypatch, "toy") == 2
