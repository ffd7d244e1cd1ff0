"""Staging in a real TorchServe."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.staging import STAGED, measure_latency, open_stage
from serving.torchserve.configuration import store
from serving.torchserve.packer import pack
from serving.torchserve.seals import ArchiveSeals
from tests.torchserve_process import make_version, running_torchserve


def test_a_version_is_timed_beside_the_champion_and_gone_afterwards(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    redis_url = request.getfixturevalue("redis_server")
    with running_torchserve(tmp_path / "home", redis_url, "staging") as settings, open_stage(settings) as stage:
        assert stage is not None
        champion = make_version(tmp_path / "1", bias=1.0)
        archive = pack(champion, store(settings), use_case="toy", version="1")
        ArchiveSeals(store(settings).with_name("seals")).seal(archive)
        stage.host.register("toy", "1", archive)

        found = measure_latency(stage, make_version(tmp_path / "2", bias=2.0), use_case="toy", champion="1")

        assert 0.2 < found["ratio"] < 5
        assert stage.host.loaded() == {"toy": {"1"}}
        assert not list(store(settings).glob(f"*{STAGED}*"))
