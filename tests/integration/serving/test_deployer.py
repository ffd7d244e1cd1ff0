"""The deployer with a real TorchServe, Redis and ledger."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis

from core.clock import SystemClock
from core.ledger import Ledger
from core.serving_policy import Bake
from core.settings import Settings
from features.streams import Keys
from registry.versions import MemoryRegistry, VersionInfo
from serving.deployer import Deployer
from serving.deployment import Stations
from serving.gateway_report import Report, Tally
from serving.routes import RedisRouteTable
from serving.routing import Route, Share
from serving.torchserve.configuration import key_file, launch, store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.tokens import Tokens
from tests.deployer_bench import pass_gate
from tests.torchserve_process import INSTANCE, make_version, start, torchserve_settings, wait_until_up, write_manifest


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
            bake_of=lambda _: Bake(min_requests=30),
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

    def version(self, bias: float, is_broken: bool = False) -> str:
        folder = make_version(self.folder / f"made{bias}", bias=bias)
        if is_broken:  # on what clients send, not on the recorded requests
            source = (folder / "use_case.py").read_text()
            fault = '    assert not (columns["amount"] == 200.0).any()\n    return {"doubled"'
            (folder / "use_case.py").write_text(source.replace('    return {"doubled"', fault))
            write_manifest(folder)
        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        as_of = datetime(2019, 2, 2, tzinfo=UTC)
        info = VersionInfo(digest=digest, as_of=as_of, reason="drift", fingerprint="f", log_loss=0.5)
        version = self.registry.register("toy", folder, info)
        pass_gate(self.ledger, "toy", version, digest)
        return version


class Client(threading.Thread):
    """Asks the routed versions all the time, as a gateway would, and counts and reports what comes back."""

    def __init__(self, stack: Stack, namespace: str = "deployed", amount: float = 1.5) -> None:
        super().__init__()
        self.stack, self.instance = stack, INSTANCE | {"amount": amount}
        self.answers: Counter[str] = Counter()
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.gateways = Keys(namespace).gateways
        self.enough = threading.Event()

    def run(self) -> None:
        tokens = Tokens(key_file(self.stack.settings))
        with httpx.Client(headers={"Authorization": f"Bearer {tokens.inference()}"}, timeout=2) as client:
            for number in itertools.count():
                route = self.stack.routes.routes()["toy"]
                version = route.version_for("toy", str(number))
                url = f"{self.stack.settings.torchserve_inference_url}/predictions/toy/{version}"
                began = time.monotonic()
                try:
                    reply = client.post(url, json={"instances": [self.instance], "log": False})
                    told = reply.json()["model_version"] if reply.is_success else f"{reply.status_code} {reply.text}"
                except httpx.HTTPError as error:
                    told = repr(error)
                self.answers[told] += 1
                tally = self.tallies[f"toy/{version}"]
                tally.answered(time.monotonic() - began) if told == version else tally.failed()
                self.report(route)
                if self.enough.wait(0.005):
                    self.stack.client.hdel(self.gateways, "client")
                    return

    def report(self, route: Route) -> None:
        report = Report({"toy": route.stamp}, {}, self.tallies, time.time_ns() // 1_000_000)
        self.stack.client.hset(self.gateways, "client", report.encode())


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
    _take_a_canary_back(stack)


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
    assert [set(s) for s in reversed(seconds)][:2] == [{"fetch", "scan", "pack", "register", "smoke", "route"}] * 2


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


def _take_a_canary_back(stack: Stack) -> None:
    """One that fails on what clients send is taken back by itself, for good, and the ledger says why."""
    bad = stack.version(0.3, is_broken=True)
    client = Client(stack, amount=200.0)
    client.start()
    try:
        stack.registry.set_alias("toy", "canary", bad, {"evergreen.canary_percent": "50"})
        stack.deployer.poll()
        assert stack.routes.routes()["toy"] == Route("3", 4, canary=Share(bad, 50))
        deadline = time.monotonic() + 30
        while stack.routes.routes()["toy"].canary is not None:
            assert time.monotonic() < deadline, client.answers
            stack.deployer.poll()
        for _ in range(3):
            stack.deployer.poll()
    finally:
        client.enough.set()
        client.join()
    assert stack.routes.routes()["toy"] == Route("3", 4)
    assert stack.registry.alias("toy", "canary") is None
    assert stack.host.loaded() == {"toy": {"1", "3"}}
    told = {e.action: e for e in stack.ledger.entries("toy", kind="deployment")}
    assert told["rollback"].version == bad and told["rollback"].evidence["baseline_errors"] == 0
    assert told["rollback"].reason.startswith(f"canary {bad} is taken back: 100.0 % of ")
    assert client.answers["3"] > 30, client.answers


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
