"""The deployer with a real TorchServe, Redis and ledger."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis

from core.clock import SystemClock
from core.ledger import Ledger
from core.settings import Settings
from registry.versions import MemoryRegistry, VersionInfo
from serving.deployer import Deployer
from serving.deployment import Stations
from serving.routes import RedisRouteTable
from serving.routing import Route
from serving.torchserve.configuration import key_file, launch, store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.tokens import Tokens
from tests.torchserve_process import INSTANCE, make_version, start, torchserve_settings, wait_until_up


class Stack:
    """A TorchServe that can be killed, and everything around it."""

    def __init__(self, folder: Path, redis_url: str, namespace: str) -> None:
        self.folder = folder
        self.settings: Settings = torchserve_settings(folder / "home", redis_url, namespace)
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.ledger.migrate()
        self.registry = MemoryRegistry(folder / "registry")
        self.host = TorchServeHost(self.settings)
        self.client = redis.Redis.from_url(redis_url)
        self.routes = RedisRouteTable(self.client, namespace)
        self.stop = threading.Event()
        self.deployer = Deployer(
            Stations(self.registry, self.host, self.routes, self.ledger, store(self.settings), SystemClock()),
            self.stop,
            grace_s=0.0,
        )
        self.start()

    def start(self) -> None:
        plan, log = launch(self.settings), self.folder / "torchserve.log"
        self.process: subprocess.Popen[bytes] = start(plan, log)
        wait_until_up(self.settings, self.process, log)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        self.host.close()
        self.client.close()
        self.ledger.close()

    def version(self, bias: float) -> str:
        folder = make_version(self.folder / f"made{bias}", bias=bias)
        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        as_of = datetime(2019, 2, 2, tzinfo=UTC)
        info = VersionInfo(digest=digest, as_of=as_of, reason="drift", fingerprint="f", log_loss=0.5)
        return self.registry.register("toy", folder, info)


class Client(threading.Thread):
    """Asks the routed version all the time, as a gateway would, and counts what comes back."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        self.answers: Counter[str] = Counter()
        self.enough = threading.Event()

    def run(self) -> None:
        tokens = Tokens(key_file(self.stack.settings))
        with httpx.Client(headers={"Authorization": f"Bearer {tokens.inference()}"}, timeout=2) as client:
            while not self.enough.wait(0.005):
                version = self.stack.routes.routes()["toy"].version
                url = f"{self.stack.settings.torchserve_inference_url}/predictions/toy/{version}"
                try:
                    reply = client.post(url, json={"instances": [INSTANCE], "log": False})
                    told = reply.json()["model_version"] if reply.is_success else f"{reply.status_code} {reply.text}"
                except httpx.HTTPError as error:
                    told = repr(error)
                self.answers[told] += 1


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), redis_server, "deployed")
    yield stack
    stack.close()


def test_switches_and_a_crash_of_the_host(stack: Stack) -> None:
    first = stack.version(0.0)
    stack.registry.set_alias("toy", "champion", first)
    stack.deployer.poll()
    assert stack.routes.routes() == {"toy": Route("1", 1)}
    _switch_under_load(stack)
    _survive_a_crash(stack)


def _switch_under_load(stack: Stack) -> None:
    client = Client(stack)
    client.start()
    try:
        for version in (stack.version(0.1), "1", stack.version(0.2)):
            stack.registry.set_alias("toy", "champion", version)
            for _ in range(3):  # switch, then let go of what is drained
                stack.deployer.poll()
            assert stack.routes.routes()["toy"].version == version
    finally:
        client.enough.set()
        client.join()
    assert set(client.answers) <= {"1", "2", "3"}, client.answers
    assert [d.version for d in reversed(stack.ledger.deployments("toy"))] == ["1", "2", "1", "3"]
    assert stack.host.loaded() == {"toy": {"1", "3"}}
    seconds = [entry.evidence["seconds"] for entry in stack.ledger.entries("toy", kind="deployment")]
    assert [set(s) for s in reversed(seconds)][:2] == [{"fetch", "pack", "register", "smoke", "route"}] * 2


def _survive_a_crash(stack: Stack) -> None:
    os.kill(stack.process.pid, signal.SIGKILL)
    stack.process.wait()
    with pytest.raises(Exception, match="TorchServe does not answer"):
        stack.deployer.poll()
    stack.start()
    stack.deployer.poll()
    assert stack.host.loaded() == {"toy": {"1", "3"}}
    assert stack.host.predict("toy", "3", {"instances": [INSTANCE], "log": False})["model_version"] == "3"
    assert stack.routes.routes()["toy"] == Route("3", 4)


def test_the_process_waits_for_what_is_away_and_stops_when_told(tmp_path: Path) -> None:
    environment = os.environ | {
        "EVERGREEN_HOME": str(tmp_path),
        "EVERGREEN_REDIS__URL": "redis://127.0.0.1:1/0",
        "EVERGREEN_MLFLOW__URL": "http://127.0.0.1:1",
        "EVERGREEN_DEPLOYER__POLL_S": "0.05",
    }
    command = [sys.executable, "-m", "serving.deployer"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while said.count("has to wait") < 2:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 0
    assert "the registry has to wait" in said and "this round has to wait" in said, said
    assert rest.count("has to wait") == 0 and "has stopped" in rest
