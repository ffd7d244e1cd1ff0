"""Real TorchServe, Redis, deployer and gateway for tests: everything between a client and a version of ``toy``."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from core.clock import SystemClock
from core.ledger import Ledger
from core.settings import Settings
from core.trust import trusted
from registry.digests import MANIFEST, sha256_of
from registry.versions import MemoryRegistry, ModelRegistry, VersionInfo
from serving.bake_policies import BakePolicies
from serving.deployer import Deployer
from serving.deployment import Stations
from serving.routes import RedisRouteTable
from serving.torchserve.configuration import key_file, launch, store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.tokens import Tokens
from stack.environment import settings_environment
from tests.conftest import free_port
from tests.deployer_bench import pass_gate
from tests.torchserve_process import make_version, start, torchserve_settings, use_case_file, wait_until_up
from tests.waiting import until

ROOT = Path(__file__).parents[1]
USE_CASE = "toy"


def register_version(registry: ModelRegistry, folder: Path, bias: float, **options: Any) -> str:
    """Make a version of ``toy`` in a folder and register it."""
    make_version(folder, bias=bias, **options)
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    as_of = datetime(2019, 2, 2, tzinfo=UTC)
    info = VersionInfo(digest=digest, as_of=as_of, reason="drift", fingerprint="f", log_loss=0.5)
    return registry.register(USE_CASE, folder, info)


def is_announced(ledger: Ledger, version: str) -> bool:
    """Whether every gateway follows the deployment of a version, which is the newest."""
    live = ledger.live(USE_CASE)
    entries = ledger.entries(USE_CASE, kind="deployment", actions=("deploy",), limit=5)
    done = {entry.evidence["generation"] for entry in entries}
    return live is not None and live.version == version and live.generation in done


def worker_pids(settings: Settings, version: str) -> list[int]:
    """The TorchServe workers that are ready to answer for a version."""
    return ready_workers(described(settings, version)[0])


def ready_workers(version: dict[str, Any]) -> list[int]:
    """The processes that are ready to answer for a version that TorchServe describes."""
    return [worker["pid"] for worker in version["workers"] if worker["status"] == "READY"]


def described(settings: Settings, which: str) -> list[dict[str, Any]]:
    """What TorchServe says of a version, of ``all``, or, with nothing, of the one that answers who names none."""
    headers = {"Authorization": f"Bearer {Tokens(key_file(settings)).management()}"}
    url = f"{settings.torchserve_management_url}/models/{USE_CASE}/{which}".rstrip("/")
    found: list[dict[str, Any]] = httpx.get(url, headers=headers, verify=trusted()).json()
    return found


class ServingStack:
    """TorchServe and gateway as processes, the deployer as a thread, the registry in memory.

    Args:
        folder: where everything is kept.
        redis_url: Redis.
        namespace: prefix of the keys.
        workers: TorchServe's workers per version.
        gateway: further settings of the gateway.
        serving: an expression that makes the use case's `core.serving_policy.Serving`.
    """

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        namespace: str,
        *,
        workers: int = 2,
        gateway: dict[str, Any] | None = None,
        serving: str = "Serving()",
    ) -> None:
        self.folder = folder
        own = torchserve_settings(folder / "home", redis_url, namespace, workers=workers)
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "toy.py").write_text(use_case_file(serving=serving))
        door = own.gateway.model_copy(update={"port": free_port(), **(gateway or {})})
        self.settings: Settings = own.model_copy(update={"models_dir": folder / "models", "gateway": door})
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.ledger.migrate()
        self.registry = MemoryRegistry(folder / "registry")
        self.host = TorchServeHost(self.settings)
        self.client = redis.Redis.from_url(redis_url)
        self.routes = RedisRouteTable(self.client, namespace)
        self.stop = threading.Event()
        self.torchserve = self.start_torchserve()
        self.gateway = self._start_gateway()
        self._deployer = threading.Thread(target=self._deploy)
        self._deployer.start()

    def start_torchserve(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it answers."""
        plan, log = launch(self.settings), self.folder / "torchserve.log"
        process = start(plan, log)
        wait_until_up(self.settings, process, log)
        return process

    def make_champion(self, bias: float, **options: Any) -> str:
        """Register a version, make it the champion, and return once it answers clients."""
        version = self.register(bias, **options)
        self.registry.set_alias(USE_CASE, "champion", version)
        self.until(lambda: is_announced(self.ledger, version), f"version {version} is not live")
        return version

    def register(self, bias: float, **options: Any) -> str:
        """Register a version; `options` are those of `make_version`."""
        made = self.folder / f"made-{time.monotonic_ns()}"
        version = register_version(self.registry, made, bias, **options)
        pass_gate(self.ledger, USE_CASE, version, sha256_of(made / MANIFEST))
        return version

    def worker_pids(self, version: str) -> list[int]:
        """The processes that are ready to answer for a version."""
        return worker_pids(self.settings, version)

    def until(self, holds: Callable[[], bool], what: str, within_s: float = 60) -> None:
        """Ask again and again."""
        until(holds, what, within_s=within_s)

    def close(self) -> None:
        """End everything."""
        self.stop.set()
        self._deployer.join()
        for process in (self.gateway, self.torchserve):
            process.terminate()
            process.wait(timeout=30)
        self.host.close()
        self.client.close()
        self.ledger.close()

    def _deploy(self) -> None:
        at = Stations(self.registry, self.host, self.routes, self.ledger, store(self.settings), SystemClock())
        bake_of = BakePolicies(self.settings.models_dir)
        Deployer(at, self.stop, bake_of=bake_of).run(poll_s=0.2)

    def _start_gateway(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **settings_environment(self.settings), "EVERGREEN_LOG_LEVEL": "WARNING"}
        with (self.folder / "gateway.log").open("wb") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "serving.gateway.main"], cwd=ROOT, env=environment, stderr=log
            )
        self.until(self._gateway_answers, "the gateway does not start")
        return process

    def _gateway_answers(self) -> bool:
        try:
            return httpx.get(f"{self.settings.gateway_url}/healthz", verify=trusted()).is_success
        except httpx.HTTPError:
            return False
