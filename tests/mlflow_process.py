"""A real MLflow server for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port
from tests.waiting import answers, until_up


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
        until_up(process, lambda: answers(f"{url}/health"), log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)
