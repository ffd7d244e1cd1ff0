"""A real gateway process in front of a real Redis and a real HTTP server that stands in for the model host."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from features.streams import Keys
from tests.waiting import until_up

ROOT = Path(__file__).parents[3]
USE_CASE = """
from datetime import timedelta
from core.use_case import EventSource, Field, Label, UseCase
from features.definitions import FeatureSet, RequestView

USE_CASE = UseCase(
    name="tip", description="Will there be a tip?",
    entities=(Field(name="zone", dtype="int", example=7),),
    request=(Field(name="fare", dtype="float", ge=0, example=12.5),),
    sources=(EventSource(name="trips", fields=(Field(name="zone", dtype="int"),)),),
    features=FeatureSet((RequestView(
        name="money", inputs=("fare",), outputs=("fare_squared",),
        compute=lambda c: {"fare_squared": c["fare"] ** 2}),)),
    label=Label(name="tipped", horizon=timedelta(hours=1), known_only_after=()),
    estimator=lambda columns: None, history=lambda folder: None,
)
"""


@dataclass
class Host:
    """What the stand-in for the model host knows: its versions, the key it wants, the calls it got.

    `hold` makes it wait before it answers; `failures` are statuses for the next calls,
    and `failing` what is said with them.
    """

    port: int = 0
    versions: set[str] = field(default_factory=lambda: {"1"})
    key: str = "key-1"
    failures: list[int] = field(default_factory=list)
    failing: str = "told to fail"
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    hold: threading.Event = field(default_factory=threading.Event)
    calls: list[dict[str, Any]] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)


def _handler(host: Host) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            version = self.path.rsplit("/", 1)[1]
            host.asked.release()
            host.hold.wait(30)
            if self.headers["Authorization"] != f"Bearer {host.key}":
                self._send(
                    400, {"code": 400, "message": "Token Authentication failed. Token either incorrect, expired"}
                )
            elif host.failures:
                self._send(host.failures.pop(0), {"message": host.failing})
            elif version not in host.versions:
                self._send(404, {"code": 404, "type": "ModelVersionNotFoundException"})
            else:
                host.calls.append(body)
                host.traceparents.append(self.headers["traceparent"])
                unknown = [i for i, row in enumerate(body["instances"]) if row["zone"] == 0]
                degraded = [{"instance": i, "reasons": ["profile: unknown entity"]} for i in unknown]
                scores = [row["fare"] / 1000 for row in body["instances"]]
                answer = {"predictions": scores, "degraded": degraded, "model_version": version}
                self._send(200, answer)

        def _send(self, status: int, document: dict[str, Any]) -> None:
            body = orjson.dumps(document)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    host.hold.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(host))
    server.daemon_threads = True
    host.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield host
    host.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class GatewayProcess:
    """A running gateway."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path
    keys: Keys
    client: redis.Redis

    def call(self, method: str, path: str, document: object = None, body: bytes | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(document) if body is None and document is not None else body)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def predict(self, *fares: float, zone: int = 7) -> tuple[int, Any]:
        return self.call("POST", "/v1/models/tip/predict", {"instances": [{"zone": zone, "fare": f} for f in fares]})

    def route(self, version: str, generation: int) -> None:
        entry = {"version": version, "generation": generation, "at": "2026-01-01T00:00:00+00:00"}
        self.client.hset(self.keys.routes, "tip", orjson.dumps(entry).decode())

    def report(self) -> dict[str, Any] | None:
        reports = [orjson.loads(raw) for raw in self.client.hgetall(self.keys.gateways).values()]
        return reports[0] if reports else None

    def until(self, holds: Callable[[], bool]) -> None:
        """Ask again and again, for at most a minute."""
        until_up(self.process, holds)


Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(
    tmp_path: Path, host: Host, port: int, redis_server: str, redis_client: redis.Redis, namespace: str
) -> Iterator[Start]:
    """Starts a gateway; further settings as keyword arguments, e.g. ``GATEWAY__TIMEOUT_S="1"``."""
    started: list[subprocess.Popen[bytes]] = []

    def run(redis_url: str = redis_server, client: redis.Redis = redis_client, **settings: str) -> GatewayProcess:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "tip.py").write_text(USE_CASE)
        write_key(tmp_path, host.key)
        values = {
            "HOME": str(tmp_path),
            "MODELS_DIR": str(tmp_path / "models"),
            "REDIS__URL": redis_url,
            "REDIS__NAMESPACE": namespace,
            "GATEWAY__PORT": str(port),
            "GATEWAY__ROUTE_POLL_S": "0.02",
            "TORCHSERVE__INFERENCE_PORT": str(host.port),
            "LOG_LEVEL": "WARNING",
            **settings,
        }
        environment = {**os.environ, **{f"EVERGREEN_{name}": value for name, value in values.items()}}
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.gateway.main"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
        )
        started.append(process)
        gateway = GatewayProcess(process, port, tmp_path, Keys(namespace), client)
        gateway.route("1", 1)
        gateway.until(lambda: _ready(gateway))
        gateway.until(lambda: "tip" in (gateway.report() or {}).get("stamps", {}))
        return gateway

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


def write_key(home: Path, key: str) -> None:
    (home / "torchserve").mkdir(exist_ok=True)
    fresh = home / "torchserve" / "key_file.json.new"
    fresh.write_text(json.dumps({name: {"key": key} for name in ("management", "inference", "API")}))
    fresh.rename(home / "torchserve" / "key_file.json")


def _ready(gateway: GatewayProcess) -> bool:
    try:
        return gateway.call("GET", "/readyz")[0] == 200
    except ConnectionError:
        return False
