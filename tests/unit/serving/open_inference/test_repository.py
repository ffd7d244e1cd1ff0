from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from core.errors import DeploymentError
from serving.open_inference.layouts import MLSERVER, TRITON, triton_config
from serving.open_inference.repository import ModelRepository
from tests.torchserve_process import INSTANCE, expected_score, make_version
from tests.triton_config import parse_config


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return make_version(tmp_path / "version") / "model.onnx"


def test_triton_finds_a_configuration_and_the_graph(tmp_path: Path, graph: Path) -> None:
    repository = ModelRepository(tmp_path / "repository", TRITON)
    for version in ("9", "10"):
        repository.add("toy", version, graph)
    folder = tmp_path / "repository" / "toy"
    config = parse_config((folder / "config.pbtxt").read_text())
    assert (config.name, config.platform) == ("toy", "onnxruntime_onnx")
    assert list(config.version_policy.specific.versions) == [9, 10]
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size > 512
    session = onnxruntime.InferenceSession(str(folder / "10" / "model.onnx"))
    (taken,), (given,) = config.input, config.output
    assert [taken.name, *taken.dims] == ["X", *session.get_inputs()[0].shape[1:]] == ["X", 2]
    assert (given.name, list(given.dims)) == ("scores", [1])
    assert list(given.reshape.shape) == session.get_outputs()[0].shape[1:] == []
    scores = session.run([given.name], {taken.name: np.array([[3.0, 2.0]], dtype=np.float32)})[0]
    assert scores.tolist() == pytest.approx([expected_score(INSTANCE)], abs=1e-6)


def test_versions_that_differ_in_their_features_share_a_configuration() -> None:
    assert list(parse_config(triton_config("toy", {"1": 2, "2": 3})).input[0].dims) == [-1]


def test_mlserver_finds_its_settings_and_a_runtime(tmp_path: Path, graph: Path) -> None:
    ModelRepository(tmp_path, MLSERVER).add("toy", "7", graph)
    folder = tmp_path / "toy" / "7"
    settings = json.loads((folder / "model-settings.json").read_bytes())
    assert (settings["name"], settings["parameters"]["version"]) == ("toy", "7")
    module, name = settings["implementation"].split(".")
    assert f"class {name}(" in (folder / f"{module}.py").read_text()


@pytest.mark.parametrize("layout", [TRITON, MLSERVER])
def test_versions_come_and_go_and_the_last_takes_the_model_with_it(tmp_path: Path, graph: Path, layout: object) -> None:
    repository = ModelRepository(tmp_path / "repository", layout)  # type: ignore[arg-type]
    assert repository.versions() == {}
    for version in ("1", "2", "2"):
        repository.add("toy", version, graph)
    assert repository.versions() == {"toy": {"1", "2"}}
    repository.remove("toy", "1")
    repository.remove("toy", "1")
    assert repository.versions() == {"toy": {"2"}}
    assert repository.digest("toy", "1") is None
    assert repository.digest("toy", "2") is not None
    repository.remove("toy", "2")
    assert list((tmp_path / "repository").iterdir()) == []


def test_what_others_keep_in_the_repository_is_left_alone(tmp_path: Path, graph: Path) -> None:
    theirs = tmp_path / "toy" / "1" / "model.onnx"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    repository = ModelRepository(tmp_path, TRITON)
    assert repository.versions() == {}
    repository.remove("toy", "1")
    with pytest.raises(DeploymentError, match="did not put there"):
        repository.add("toy", "2", graph)
    assert theirs.read_bytes() == b"theirs"


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, graph: Path) -> None:
    (tmp_path / ".new-toy-1").mkdir()
    (tmp_path / ".gone-toy-1").mkdir()
    ModelRepository(tmp_path, TRITON).add("toy", "1", graph)
    assert not list(tmp_path.glob(".*"))


def test_what_no_server_could_run_is_refused(tmp_path: Path, graph: Path) -> None:
    repository = ModelRepository(tmp_path / "repository", TRITON)
    with pytest.raises(DeploymentError, match=r"toy abc: .* whole numbers"):
        repository.add("toy", "abc", graph)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(DeploymentError, match=r"broken.onnx cannot be served"):
        repository.add("toy", "1", broken)
    model = onnx.load(str(graph))
    model.graph.output[0].name = "probabilities"
    onnx.save(model, str(broken))
    with pytest.raises(DeploymentError, match="Export it again"):
        repository.add("toy", "1", broken)
    assert repository.versions() == {}


def test_a_repository_that_cannot_be_written_is_named(tmp_path: Path, graph: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeploymentError, match="file cannot be written"):
        ModelRepository(tmp_path / "file", TRITON).add("toy", "1", graph)
