"""Aliases moved in a real MLflow, by one and by many, with its webhooks: a real gateway follows, the ledger agrees."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from core.clock import SystemClock
from core.ledger import Ledger
from core.settings import DeployerSettings, GatewaySettings, MlflowSettings, RedisSettings, Settings
from core.trust import trusted
from registry.digests import MANIFEST, sha256_of
from registry.mlflow_registry import MlflowRegistry
from serving.deployer import Deployer
from serving.deployment import Stations
from serving.model_host import MemoryModelHost
from serving.promoting import Promotions
from serving.routes import RedisRouteTable
from serving.wakes import RedisWakes
from serving.webhook_keeper import WebhookKeeper
from stack.environment import settings_environment
from stack.processes import webhooks_allowed
from tests.conftest import free_port
from tests.deployer_bench import pass_gate
from tests.mlflow_process import mlflow_url
from tests.serving_stack import register_version
from tests.torchserve_process import use_case_file
from tests.waiting import until

ROOT = Path(__file__).parents[3]
MOVES = 64
_NEVER_S = 60.0  # most that may be set: what is followed sooner was followed because of a wake


class Door:
    """A real MLflow, Redis and gateway, and the deployer as a thread over a model host in memory."""

    def __init__(self, folder: Path, redis_url: str, stack: ExitStack) -> None:
        (folder / "models").mkdir()
        (folder / "models" / "toy.py").write_text(use_case_file())
        self.settings = Settings(
            home=folder / "home",
            models_dir=folder / "models",
            redis=RedisSettings(url=redis_url, namespace="promotion"),
            mlflow=MlflowSettings(port=free_port()),
            gateway=GatewaySettings(port=free_port()),
            deployer=DeployerSettings(poll_s=0.5, registry_poll_s=_NEVER_S),
        )
        mlflow = folder / "mlflow"
        mlflow.mkdir()
        stack.enter_context(mlflow_url(mlflow, self.settings.mlflow.port, **webhooks_allowed(self.settings)))
        self.ledger = Ledger(self.settings.ledger_url)
        self.ledger.migrate()
        stack.callback(self.ledger.close)
        self.registry = MlflowRegistry(self.settings.mlflow_url)
        self.client = MlflowClient(self.settings.mlflow_url)
        self.versions = [self._register(folder / f"v{i}", 0.1 * i) for i in range(4)]
        self.stop = threading.Event()
        self._start_gateway(folder, stack)
        routes = RedisRouteTable.connect(self.settings)
        stack.callback(routes.close)
        stations = Stations(self.registry, MemoryModelHost(), routes, self.ledger, folder / "store", SystemClock())
        deployer = Deployer(stations, self.stop, registry_poll_s=_NEVER_S)
        thread = threading.Thread(target=self._deploy, args=(deployer,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.stop.set)

    def answers(self) -> str | None:
        """The version that the gateway sends predictions to."""
        version: str | None = httpx.get(f"{self.settings.gateway_url}/v1/models/toy", verify=trusted()).json()[
            "version"
        ]
        return version

    def agree(self) -> bool:
        """Whether the ledger, MLflow and the gateway name the same version."""
        live, wanted = self.ledger.live("toy"), self.registry.alias("toy", "champion")
        return live is not None and live.version == wanted == self.answers()

    def move(self, version: str) -> None:
        """What MLflow's UI does."""
        self.client.set_registered_model_alias("toy", "champion", version)

    def promotions(self) -> Promotions:
        """As the command line makes it."""

        def wake() -> None:
            wakes = RedisWakes.connect(self.settings)
            wakes.wake()
            wakes.close()

        return Promotions(self.registry, self.ledger, SystemClock(), wake=wake)

    def _register(self, folder: Path, bias: float) -> str:
        version = register_version(self.registry, folder, bias)
        pass_gate(self.ledger, "toy", version, sha256_of(folder / MANIFEST))
        return version

    def _deploy(self, deployer: Deployer) -> None:
        wakes = RedisWakes.connect(self.settings, self.stop)
        deployer.run(self.settings.deployer.poll_s, wakes, after=WebhookKeeper(self.settings).keep)
        wakes.close()

    def _start_gateway(self, folder: Path, stack: ExitStack) -> None:
        environment = {**os.environ, **settings_environment(self.settings), "EVERGREEN_LOG_LEVEL": "WARNING"}
        log = stack.enter_context((folder / "gateway.log").open("wb"))
        command = [sys.executable, "-m", "serving.gateway.main"]
        process = psutil.Popen(command, cwd=ROOT, env=environment, stderr=log)
        stack.callback(process.wait, timeout=30)
        stack.callback(process.terminate)
        until(self._gateway_answers, "the gateway does not start")

    def _gateway_answers(self) -> bool:
        try:
            return httpx.get(f"{self.settings.gateway_url}/healthz", verify=trusted()).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def door(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with ExitStack() as stack:
        yield Door(tmp_path_factory.mktemp("promotion"), redis_server, stack)


def test_one_and_many_move_the_alias(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    until(lambda: bool(door.client.list_webhooks()), "there is no webhook")
    _report(capsys, "alias moved in MLflow, until the gateway follows", _moved_in_mlflow(door, door.versions[0]))
    _report(capsys, "the same, with another version", _moved_in_mlflow(door, door.versions[1]))
    _rolled_back(door, capsys)
    _many_at_once(door, capsys)
    WebhookKeeper(door.settings).keep()
    assert len(door.client.list_webhooks()) == 1, "it is registered once"


def _report(capsys: pytest.CaptureFixture[str], what: str, seconds: float) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n  {what}: {seconds:.2f} s")


def _moved_in_mlflow(door: Door, version: str) -> float:
    began = time.monotonic()
    door.move(version)
    until(lambda: door.answers() == version, f"version {version} does not answer: was there a webhook?")
    return time.monotonic() - began


def _rolled_back(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = door.versions[:2]
    began = time.monotonic()
    assert door.promotions().rollback("toy", actor="ops (evergreen)", reason="complaints") == first
    until(lambda: door.answers() == first, "the rollback is not followed")
    _report(capsys, "evergreen rollback, until the gateway follows", time.monotonic() - began)
    live = door.ledger.live("toy")
    assert live is not None and (live.actor, live.previous) == ("ops (evergreen)", second)
    assert door.registry.alias("toy", "champion") == first
    _report(capsys, "the alias put back where it was taken away", _moved_in_mlflow(door, second))
    for _ in range(8):  # at once, so that the deployer may look before, between and after
        door.promotions().rollback("toy", actor="ops (evergreen)", reason="complaints")
        _moved_in_mlflow(door, second)
        until(door.agree, "MLflow's last word does not stand")
        assert door.registry.alias("toy", "champion") == second
    _report(capsys, "rolled back by the alias", _moved_in_mlflow(door, first))


def _many_at_once(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty-four people move it at the same time: one ordered history, which ends where MLflow ended."""
    moves = [door.versions[i % len(door.versions)] for i in range(MOVES)]
    began = time.monotonic()
    with ThreadPoolExecutor(MOVES) as people:
        list(people.map(door.move, moves))
    until(door.agree, "the ledger does not end where MLflow ended", within_s=60)
    _report(capsys, f"{MOVES} moves at once, until all agree", time.monotonic() - began)
    history: list[Any] = list(reversed(door.ledger.deployments("toy")))
    assert [each.generation for each in history] == list(range(1, len(history) + 1))
    assert [each.previous for each in history] == [None, *(each.version for each in history[:-1])]
    assert all(each.evidence["digest"] for each in history)
    announced = [entry.evidence["generation"] for entry in door.ledger.entries("toy", actions=("deploy",))]
    assert len(announced) == len(set(announced)), "none was announced twice"
    assert not door.ledger.entries("toy", actions=("refuse", "hold"))
