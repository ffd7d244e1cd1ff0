"""The deployer over memory implementations of everything but the ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import DependencyDown, DeploymentError
from registry.versions import Desired, MemoryRegistry
from serving.deployer import Deployer
from serving.model_host import MemoryModelHost
from serving.routes import MemoryRouteTable
from serving.routing import Route
from tests.deployer_bench import AS_OF, Bench
from tests.torchserve_process import make_version, write_manifest
from tests.unit.serving.test_seals import tamper


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.ledger.close()


def test_the_champion_is_put_into_service_and_recorded(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    assert bench.host.loaded() == {"toy": {"1"}}
    assert bench.routes.routes() == {"toy": Route("1", 1)}
    (entry,) = bench.ledger.entries("toy", kind="deployment")
    assert (entry.action, entry.version, entry.as_of) == ("deploy", "1", AS_OF)
    assert set(entry.evidence["seconds"]) == {"fetch", "scan", "pack", "register", "smoke", "route"}
    live = bench.ledger.live("toy")
    assert live is not None and live.reason == "champion moved from nothing to 1: drift"


def test_nothing_is_done_twice(bench: Bench) -> None:
    bench.champion(bench.version())
    for _ in range(3):
        bench.deployer.poll()
    assert len(bench.ledger.deployments("toy")) == 1
    assert bench.deployments() == [("deploy", "1")]


def test_the_previous_version_stays_warm_and_older_ones_are_let_go_once_drained(bench: Bench) -> None:
    for bias in (0.0, 0.1, 0.2):
        bench.champion(bench.version(bias=bias))
        bench.deployer.poll()
    assert bench.host.loaded() == {"toy": {"1", "2", "3"}}
    bench.routes.waiting["toy"] = {"1": 3}
    bench.now_s = 60
    bench.deployer.poll()
    assert bench.host.loaded() == {"toy": {"1", "2", "3"}}
    bench.routes.waiting.clear()
    bench.deployer.poll()
    assert bench.host.loaded() == {"toy": {"1", "2", "3"}}
    bench.now_s = 65
    bench.deployer.poll()
    assert bench.host.loaded() == {"toy": {"2", "3"}}
    assert not (bench.stations.store / "toy-1.mar").exists()
    assert bench.host.preferred == {"toy": "3"}


def test_a_tampered_version_is_refused_once_and_the_current_one_goes_on(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    second = bench.version(bias=0.1)
    (bench.registry.folder("toy", second) / "model.onnx").write_bytes(b"other")
    bench.champion(second)
    for bench.now_s in range(0, 100, 10):
        bench.deployer.poll()
    bench.restarted().poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)}
    assert bench.deployments() == [("deploy", "1"), ("refuse", "2")]
    assert bench.ledger.entries("toy", limit=1)[0].reason.startswith("toy 2: model.onnx has digest ")


def test_a_version_that_fails_its_smoke_test_is_refused_and_unloaded(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    bench.host.score = float("nan")
    bench.champion(bench.version(bias=0.1))
    for bench.now_s in (0.0, 1.0, 10.0):
        bench.deployer.poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)}
    assert bench.deployments() == [("deploy", "1"), ("refuse", "2")]
    assert "smoke test" in bench.ledger.entries("toy", kind="deployment")[0].reason
    assert bench.host.loaded() == {"toy": {"1"}}


def test_a_refused_version_is_tried_again_when_the_alias_comes_back(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    bench.host.score = float("nan")
    bench.champion(bench.version(bias=0.1))
    bench.deployer.poll()
    bench.host.score = 0.5
    bench.deployer.poll()
    assert bench.routes.routes()["toy"].version == "1"
    bench.champion("1")
    bench.deployer.poll()
    bench.champion("2")
    bench.deployer.poll()
    assert bench.routes.routes()["toy"].version == "2"


def test_a_host_that_was_restarted_gets_its_versions_back_while_the_registry_is_away(bench: Bench) -> None:
    for bias in (0.0, 0.1):
        bench.champion(bench.version(bias=bias))
        bench.deployer.poll()

    class Away(MemoryRegistry):
        def desired(self) -> dict[str, Desired]:
            raise DependencyDown("MLflow", "connection refused")

        def fetch(self, use_case: str, version: str, into: Path) -> Path:
            raise DependencyDown("MLflow", "connection refused")

    empty = MemoryModelHost()
    bench.restarted(host=empty, registry=Away(bench.folder / "away")).poll()
    assert empty.loaded() == {"toy": {"1", "2"}}
    assert empty.preferred == {"toy": "2"}
    assert len(bench.ledger.deployments("toy")) == 2


def test_a_deployment_that_was_not_routed_yet_is_routed_by_the_next_process(bench: Bench) -> None:
    bench.champion(bench.version())

    class Killed(MemoryRouteTable):
        def publish(self, use_case: str, route: Route) -> None:
            raise DependencyDown("Redis", "connection refused")

    bench.restarted(routes=Killed()).poll()
    assert bench.ledger.live("toy") is not None and bench.routes.routes() == {}
    bench.restarted().poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)}
    assert bench.deployments() == [("deploy", "1")]


def test_an_alias_that_is_gone_changes_nothing(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    bench.registry._aliases.clear()
    bench.deployer.poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)} and bench.host.loaded() == {"toy": {"1"}}


def test_one_use_case_in_trouble_leaves_the_others_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Selective(MemoryModelHost):
        def register(self, use_case: str, version: str, archive: Path) -> None:
            if use_case == "bad":
                raise ValueError("something nobody thought of")
            super().register(use_case, version, archive)

    bench.champion(bench.version("bad"), "bad")
    bench.champion(bench.version("toy"), "toy")
    bench.restarted(host=Selective())
    for _ in range(3):
        bench.deployer.poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)}
    assert caplog.text.count("bad failed unexpectedly") == 1


def test_a_live_version_that_does_not_load_is_tried_again(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()

    class Flaky(MemoryModelHost):
        failures = 2

        def register(self, use_case: str, version: str, archive: Path) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise DeploymentError("out of memory")
            super().register(use_case, version, archive)

    flaky = Flaky()
    bench.restarted(host=flaky).poll()
    assert flaky.loaded() == {}
    bench.now_s += 1
    bench.deployer.poll()
    assert flaky.loaded() == {}
    bench.now_s += 30
    bench.deployer.poll()
    assert flaky.loaded() == {"toy": {"1"}}


def test_an_archive_that_does_not_load_is_fetched_anew(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    (bench.stations.store / "toy-1.mar").write_bytes(b"cut off")
    empty = MemoryModelHost()
    bench.restarted(host=empty).poll()
    assert empty.loaded() == {"toy": {"1"}}


def test_an_archive_changed_together_with_its_manifest_is_fetched_anew(bench: Bench) -> None:
    bench.champion(bench.version())
    bench.deployer.poll()
    archive = bench.stations.store / "toy-1.mar"
    packed = archive.read_bytes()
    tamper(archive)
    empty = MemoryModelHost()
    bench.restarted(host=empty).poll()
    assert empty.loaded() == {"toy": {"1"}}
    assert archive.read_bytes() == packed


def test_running_survives_an_outage_of_the_host_and_stops_when_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    stop, polls = threading.Event(), 0

    class Away(MemoryModelHost):
        def loaded(self) -> dict[str, set[str]]:
            nonlocal polls
            polls += 1
            if polls == 3:
                stop.set()
            raise DependencyDown("TorchServe", "connection refused")

    Deployer(replace(bench.stations, host=Away()), stop).run(poll_s=0.0)
    assert polls == 3
    assert caplog.text.count("connection refused") == 1


def test_leftovers_of_a_killed_process_are_removed(bench: Bench) -> None:
    bench.stations.store.mkdir()
    (bench.stations.store / ".fetch-1").mkdir()
    (bench.stations.store / ".toy-1.mar.77").write_bytes(b"half")
    stop = threading.Event()
    stop.set()
    Deployer(bench.stations, stop).run(poll_s=0.0)
    assert list(bench.stations.store.iterdir()) == []


def test_a_gateway_that_does_not_follow_delays_the_record_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.deployment._PICK_UP_WITHIN_S", 0.0)
    bench.routes.following = False
    bench.champion(bench.version())
    bench.deployer.poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)} and bench.deployments() == []
    bench.routes.following = True
    bench.deployer.poll()
    assert bench.deployments() == [("deploy", "1")]


def test_versions_are_written_with_a_manifest_that_matches(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "v")
    before = (folder / "manifest.json").read_bytes()
    write_manifest(folder)
    assert (folder / "manifest.json").read_bytes() == before
