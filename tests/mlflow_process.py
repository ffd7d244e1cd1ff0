"""A real MLflow server for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port

_START_S = 60


@contextmanager
def mlflow_url(folder: Path, port: int = 0, **environment: str) -> Iterator[str]:
    """The URL of an MLflow server on SQLite that lives in `folder` as long as the context.

    Args:
        folder: where it keeps its state.
        port: where it listens; 0: on a free one.
        environment: further variables it is started with.
    """
    port = port or free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
        "--workers", "1",
    ]  # fmt: skip
    switched_off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **switched_off, **environment}, cwd=folder, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for_health(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


def _wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None and time.monotonic() < deadline, f"MLflow did not start: {log.read_text()}"
            try:
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
