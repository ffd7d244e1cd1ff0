"""A real Prefect server, and a project with one small use case."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import answers, until_up

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("door_opens", "window_opens", "hatch_opens")
USE_CASE = ROOT / "tests" / "integration" / "flows" / "door_opens.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this test, stopped at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@pytest.fixture(scope="package")  # ends with this folder: an idle stack takes time from the tests after it
def prefect_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    environment = {
        "PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_UI_ENABLED": "false",
    }  # fmt: skip
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "server.log"
    with running(command, environment, log) as process:
        until_up(process, lambda: answers(f"http://127.0.0.1:{port}/api/health"), log)
        yield port


@pytest.fixture(scope="package")  # ends with this folder: an idle stack takes time from the tests after it
def project(prefect_port: int, redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a project, as variables; each test has a use case of its own in it (see NAMES)."""
    folder = tmp_path_factory.mktemp("project")
    models = folder / "models"
    models.mkdir()
    for name in NAMES:
        (models / f"{name}.py").write_text(USE_CASE.read_text().replace("door_opens", name))
    return {
        "EVERGREEN_HOME": str(folder / "home"), "EVERGREEN_MODELS_DIR": str(models), "EVERGREEN_CLOCK": "event",
        "EVERGREEN_REDIS__URL": redis_server, "EVERGREEN_REDIS__NAMESPACE": "test-flows",
        "EVERGREEN_MLFLOW__URL": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),  # else below the working directory
        "EVERGREEN_PREFECT__PORT": str(prefect_port), "EVERGREEN_PREFECT__POOL": "test-pool",
        "EVERGREEN_STREAM__PORT": str(free_port()),
        "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip


@pytest.fixture(scope="package")  # ends with this folder: an idle stack takes time from the tests after it
def worker(project: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of the project; deploys before it works. A stream worker fills the offline log meanwhile."""
    logs = tmp_path_factory.mktemp("worker")
    log = logs / "worker.log"
    with (
        running([sys.executable, "-m", "features.streaming.worker"], project, logs / "streams.log"),
        running([sys.executable, "-m", "flows.worker"], project, log) as process,
    ):
        until_up(process, lambda: b"deployed" in log.read_bytes(), log, within_s=120)
        yield process
