"""What MLflow's artifact store raises over HTTP is an outage like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from core.errors import DependencyDown
from registry.mlflow_registry import MlflowRegistry


class Refusing(BaseHTTPRequestHandler):
    """A server that knows a version and its run, and refuses whatever concerns artifacts."""

    def do_GET(self) -> None:
        host, port = self.server.server_address[:2]
        store = f"http://{host}:{port}/api/2.0/mlflow-artifacts/artifacts/0/r"
        if "model-versions/get" in self.path:
            tags = [{"key": "evergreen.digest", "value": "d"}]
            self.answer({"model_version": {"name": "taxi", "version": "1", "run_id": "r", "tags": tags}})
        elif "runs/get" in self.path:
            info = {"run_id": "r", "experiment_id": "0", "artifact_uri": store, "status": "FINISHED"}
            self.answer({"run": {"info": info, "data": {}}})
        else:
            self.answer({"error_code": "PERMISSION_DENIED", "message": "no"}, 403)

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def answer(self, content: object, status: int = 200) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[MlflowRegistry]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield MlflowRegistry(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_a_download_that_is_refused_is_an_outage(registry: MlflowRegistry, tmp_path: Path) -> None:
    with pytest.raises(DependencyDown, match=f"MLflow at {registry.url}"):
        registry.fetch("taxi", "1", tmp_path / "version")

    assert not (tmp_path / "version").exists()


def test_an_upload_that_is_refused_is_an_outage(registry: MlflowRegistry, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("a look", encoding="utf-8")

    with pytest.raises(DependencyDown, match="403"):
        registry.log_look("taxi", "1", at=datetime(2019, 2, 2, tzinfo=UTC), page=page, distances={})
