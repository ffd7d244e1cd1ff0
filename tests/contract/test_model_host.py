"""What every model host must do, in memory and for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import DeploymentError
from serving.model_host import MemoryModelHost, ModelHost
from serving.open_inference.host import OpenInferenceHost
from serving.open_inference.scorings import store as open_inference_store
from serving.torchserve.configuration import store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.packer import pack
from tests.mlserver_process import running_mlserver
from tests.torchserve_process import INSTANCE, make_version, running_torchserve

ASK = {"instances": [INSTANCE, INSTANCE], "log": False}


@pytest.fixture(scope="module", params=["memory", "torchserve", pytest.param("mlserver", marks=pytest.mark.slow)])
def station(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ModelHost, Path]]:
    """A host and the store it loads from."""
    folder = tmp_path_factory.mktemp("host")
    if request.param == "memory":
        yield MemoryModelHost(), folder / "store"
        return
    redis_url = request.getfixturevalue("redis_server")
    if request.param == "mlserver":
        with running_mlserver(folder / "home", redis_url, "contract") as settings:
            inference = OpenInferenceHost(settings)
            yield inference, open_inference_store(settings)
            inference.close()
        return
    with running_torchserve(folder / "home", redis_url, "contract") as settings:
        host = TorchServeHost(settings)
        yield host, store(settings)
        host.close()


@pytest.fixture
def host(station: tuple[ModelHost, Path]) -> Iterator[ModelHost]:
    """The host, empty."""
    yield station[0]
    for use_case, versions in station[0].loaded().items():
        for version in versions:
            station[0].unregister(use_case, version)


@pytest.fixture
def archive(station: tuple[ModelHost, Path], tmp_path: Path) -> Path:
    """Version 1 of the use case ``toy``."""
    return packed(station, tmp_path, "1")


def packed(station: tuple[ModelHost, Path], folder: Path, version: str) -> Path:
    return pack(make_version(folder / version, bias=float(version)), station[1], use_case="toy", version=version)


def test_a_registered_version_answers_at_once(host: ModelHost, archive: Path) -> None:
    host.register("toy", "1", archive)
    assert host.loaded() == {"toy": {"1"}}
    answer = host.predict("toy", "1", ASK)
    assert answer["model_version"] == "1"
    assert len(answer["predictions"]) == len(answer["prediction_ids"]) == 2
    assert answer["degraded"] == []
    assert all(0 <= score <= 1 for score in answer["predictions"])


def test_registering_again_changes_nothing(host: ModelHost, archive: Path) -> None:
    host.register("toy", "1", archive)
    host.register("toy", "1", archive)
    assert host.loaded() == {"toy": {"1"}}


def test_versions_stand_side_by_side_and_go_one_by_one(
    host: ModelHost, archive: Path, station: tuple[ModelHost, Path], tmp_path: Path
) -> None:
    host.register("toy", "1", archive)
    host.register("toy", "2", packed(station, tmp_path, "2"))
    assert host.loaded() == {"toy": {"1", "2"}}
    assert [host.predict("toy", v, ASK)["model_version"] for v in ("1", "2")] == ["1", "2"]
    host.prefer("toy", "2")
    host.prefer("toy", "2")
    host.unregister("toy", "2")
    assert host.loaded() == {"toy": {"1"}}
    host.unregister("toy", "1")
    assert host.loaded() == {}


def test_unregistering_what_is_not_there_changes_nothing(host: ModelHost, archive: Path) -> None:
    host.unregister("toy", "1")
    host.register("toy", "1", archive)
    host.unregister("toy", "2")
    assert host.loaded() == {"toy": {"1"}}


def test_what_cannot_be_loaded_is_refused_and_leaves_nothing_behind(
    host: ModelHost, archive: Path, station: tuple[ModelHost, Path]
) -> None:
    host.register("toy", "1", archive)
    broken = station[1] / "toy-2.mar"
    broken.write_bytes(b"no archive")
    with pytest.raises(DeploymentError, match="toy 2"):
        host.register("toy", "2", broken)
    with pytest.raises(DeploymentError, match="toy 3"):
        host.register("toy", "3", station[1] / "nowhere.mar")
    assert host.loaded() == {"toy": {"1"}}


def test_asking_or_preferring_what_is_not_loaded_is_refused(host: ModelHost, archive: Path) -> None:
    with pytest.raises(DeploymentError, match="toy 1"):
        host.predict("toy", "1", ASK)
    host.register("toy", "1", archive)
    with pytest.raises(DeploymentError, match="toy 2"):
        host.predict("toy", "2", ASK)
    with pytest.raises(DeploymentError, match="toy 2"):
        host.prefer("toy", "2")


def test_a_request_without_instances_is_refused(host: ModelHost, archive: Path) -> None:
    host.register("toy", "1", archive)
    with pytest.raises(DeploymentError, match="toy 1"):
        host.predict("toy", "1", {"instances": [], "log": False})
    assert host.predict("toy", "1", ASK)["model_version"] == "1"
