"""The client of an inference server, against an HTTP server that answers as Triton and others do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import orjson
import pytest

from core.errors import DependencyDown, SettingsError
from core.settings import HostSettings, Settings
from serving.open_inference.server import InferenceServer, ServerRefused, require_host_settings
from serving.open_inference.tensors import HEADER_LENGTH, from_bytes, to_bytes

MATRIX = np.array([[1.5, np.nan], [2.0, 3.0]], dtype=np.float32)


@dataclass
class Far:
    """What the other side answers by (method, path), and the bodies it got."""

    port: int = 0
    extensions: list[str] = field(default_factory=lambda: ["binary_tensor_data"])
    answers: dict[tuple[str, str], tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    got: list[tuple[bytes, str | None]] = field(default_factory=list)

    def answer(self, method: str, path: str, status: int, body: Any = b"", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        self.answers[method, path] = (status, raw, {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.command == "POST":
                far.got.append((body, self.headers.get(HEADER_LENGTH)))
            metadata = (200, orjson.dumps({"name": "far", "extensions": far.extensions}), {})
            known = far.answers | ({("GET", "/v2"): metadata} if ("GET", "/v2") not in far.answers else {})
            status, answer, headers = known.get((self.command, self.path), (404, b'{"detail":"Not Found"}', {}))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    far.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield far
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(far: Far) -> Iterator[InferenceServer]:
    server = InferenceServer(f"http://127.0.0.1:{far.port}/", timeout_s=5)
    yield server
    server.close()


INFER = "/v2/models/toy/versions/7/infer"


def test_tensors_go_and_come_as_bytes_where_the_server_says_it_can(far: Far, server: InferenceServer) -> None:
    raw = to_bytes("BYTES", ["a", "b"]) + to_bytes("FP32", [0.25, 0.75])
    outputs = [
        {"name": "other", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
        {"name": "scores", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": 8}},
    ]
    head = orjson.dumps({"model_name": "toy", "outputs": outputs})
    far.answer("POST", INFER, 200, head + raw, **{HEADER_LENGTH: str(len(head))})
    assert server.score("toy", "7", MATRIX).tolist() == [0.25, 0.75]
    ((body, length),) = far.got
    assert length is not None
    asked = orjson.loads(body[: int(length)])
    assert asked["inputs"][0]["shape"] == [2, 2]
    sent = from_bytes("FP32", 4, body[int(length) :])
    np.testing.assert_array_equal(np.array(sent, dtype=np.float32), MATRIX.reshape(-1))


def test_others_get_json_with_null_for_what_is_missing(far: Far, server: InferenceServer) -> None:
    far.extensions = []
    scores = {"name": "scores", "datatype": "FP32", "shape": [2], "data": [0.25, None]}
    far.answer("POST", INFER, 200, {"outputs": [scores]})
    answer = server.score("toy", "7", MATRIX)
    assert answer[0] == 0.25
    assert np.isnan(answer[1])
    ((body, length),) = far.got
    assert length is None
    assert orjson.loads(body)["inputs"][0]["data"] == [1.5, None, 2.0, 3.0]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", {"outputs": []}, {"outputs": [7]}, {"outputs": [{"name": "scores", "data": [0.5]}]},
     {"outputs": [{"name": "scores", "data": ["x", "y"]}]}, {"outputs": [{"name": "scores", "data": None}]}],
)  # fmt: skip
def test_answers_without_scores_are_refused(far: Far, server: InferenceServer, body: Any) -> None:
    far.answer("POST", INFER, 200, body)
    with pytest.raises(ServerRefused, match="toy 7 gives no scores"):
        server.score("toy", "7", MATRIX)


def test_what_the_server_says_is_passed_on(far: Far, server: InferenceServer) -> None:
    far.answer("POST", INFER, 400, {"error": "unexpected shape"})
    with pytest.raises(ServerRefused, match="400 unexpected shape") as refused:
        server.score("toy", "7", MATRIX)
    assert refused.value.status == 400
    far.answer("POST", INFER, 503, {"error": "no instance"})
    with pytest.raises(DependencyDown, match="503 no instance"):
        server.score("toy", "7", MATRIX)


def test_a_model_that_does_not_load_is_told_from_a_server_that_loads_none(far: Far, server: InferenceServer) -> None:
    load = "/v2/repository/models/toy/load"
    for status, body in (
        (404, {"detail": "Not Found"}),
        (503, {"error": "explicit model load / unload is not allowed"}),
    ):
        far.answer("POST", load, status, body)
        with pytest.raises(ServerRefused, match="must let its clients load models"):
            server.load("toy")
    far.answer("POST", load, 400, {"error": "load failed for model 'toy': bad graph"})
    with pytest.raises(ServerRefused, match=r"toy cannot be loaded: .* bad graph"):
        server.load("toy")
    far.answer("POST", load, 503, b"starting")
    with pytest.raises(DependencyDown, match="starting"):
        server.load("toy")
    far.answer("POST", load, 200)
    server.load("toy")


def test_unloading_what_is_not_there_changes_nothing(far: Far, server: InferenceServer) -> None:
    far.answer("POST", "/v2/repository/models/toy/unload", 404, {"error": "Model toy not found"})
    server.unload("toy")
    far.answer("POST", "/v2/repository/models/toy/unload", 500, {"error": "no"})
    with pytest.raises(ServerRefused, match="500 no"):
        server.unload("toy")


def test_readiness_is_what_the_status_says(far: Far, server: InferenceServer) -> None:
    ready = "/v2/models/toy/versions/7/ready"
    for status, is_ready in ((200, True), (400, False), (404, False), (503, False)):
        far.answer("GET", ready, status)
        assert server.is_ready("toy", "7") is is_ready


def test_a_server_that_is_away_or_no_such_server_is_told(far: Far, server: InferenceServer, port: int) -> None:
    away = InferenceServer(f"http://127.0.0.1:{port}", timeout_s=5)
    with pytest.raises(DependencyDown, match="The inference server does not answer"):
        away.is_ready("toy", "7")
    away.close()
    far.answer("GET", "/v2", 200, b"<html>")
    with pytest.raises(DependencyDown, match="no metadata"):
        server.score("toy", "7", MATRIX)


@pytest.mark.parametrize(
    ("host", "missing"),
    [
        ({"repository": "/models"}, "URL"),
        ({"url": "http://h"}, "REPOSITORY"),
        ({"url": "http://h", "repository": "m"}, "absolute"),
    ],
)
def test_a_host_that_is_not_described_is_refused(host: dict[str, str], missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        require_host_settings(Settings(host=HostSettings(kind="open_inference", **host)))  # type: ignore[arg-type]
