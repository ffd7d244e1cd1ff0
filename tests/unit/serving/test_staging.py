from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import DependencyDown, DeploymentError
from core.settings import Settings
from serving.model_host import MemoryModelHost
from serving.staging import STAGED, Stage, measure_latency, open_stage
from tests.torchserve_process import make_version


class Host(MemoryModelHost):
    """Remembers what it was asked."""

    def __init__(self, score: float = 0.5) -> None:
        super().__init__(score)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def predict(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((version, body))
        return super().predict(use_case, version, body)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_version(tmp_path / "version", bias=1.0)


def stage_with(host: MemoryModelHost, folder: Path, *loaded: str) -> Stage:
    store = folder.parent / "store"
    for version in loaded:
        host._loaded.setdefault("toy", set()).add(version)
        host.preferred.setdefault("toy", version)
    return Stage(host, store)


def test_both_are_asked_the_recorded_requests_in_turn_and_nothing_is_left_behind(folder: Path) -> None:
    host = Host()
    stage = stage_with(host, folder, "3")
    found = measure_latency(stage, folder, use_case="toy", champion="3", rounds=4)
    recorded = json.loads((folder / "smoke.json").read_text())
    assert found["ratio"] == pytest.approx(found["challenger_ms"] / found["champion_ms"])
    assert (found["requests"], found["rounds"]) == (len(recorded["instances"]), 4)
    assert [version for version, _ in host.asked[1:5]] == [STAGED, "3", STAGED, "3"]
    assert all(body["instances"] == recorded["instances"] and body["log"] is False for _, body in host.asked)
    assert host.loaded() == {"toy": {"3"}} and host.preferred == {"toy": "3"}
    assert not [path for path in stage.store.iterdir() if not path.name.startswith(".")]
    assert not list((folder.parent / "seals").iterdir())


def test_without_a_champion_in_the_host_nothing_is_loaded(folder: Path) -> None:
    host = Host()
    found = measure_latency(stage_with(host, folder), folder, use_case="toy", champion="3")
    assert found == {"skipped": "the champion 3 is not loaded in the model host"}
    assert host.asked == []


def test_a_version_that_answers_nonsense_is_at_fault_and_let_go(folder: Path) -> None:
    host = Host(score=1.5)
    with pytest.raises(DeploymentError, match="which is no probability"):
        measure_latency(stage_with(host, folder, "3"), folder, use_case="toy", champion="3")
    assert host.loaded() == {"toy": {"3"}}


def test_a_champion_that_knows_other_requests_cannot_be_compared(folder: Path) -> None:
    class Refusing(Host):
        def predict(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
            if version == "3":
                raise DeploymentError("unknown field")
            return super().predict(use_case, version, body)

    found = measure_latency(stage_with(Refusing(), folder, "3"), folder, use_case="toy", champion="3")
    assert "does not answer the challenger's recorded requests: unknown field" in found["skipped"]


def test_a_host_that_is_away_says_so(tmp_path: Path, folder: Path) -> None:
    with open_stage(Settings(home=tmp_path)) as stage, pytest.raises(DependencyDown):
        assert stage is not None
        measure_latency(stage, folder, use_case="toy", champion="3")


def test_nothing_is_staged_in_a_server_elsewhere(tmp_path: Path) -> None:
    elsewhere = {"kind": "open_inference", "url": "http://127.0.0.1:1", "repository": str(tmp_path)}
    with open_stage(Settings(home=tmp_path, host=elsewhere)) as stage:
        assert stage is None
