"""Several gateway processes on one port: one is killed, the others answer, and the port is free at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from core.settings import GatewaySettings, Settings
from tests.waiting import answers, until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def gateway(
    tmp_path: Path, redis_server: str, namespace: str, port: int
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of a gateway of two processes without any use case, and its parent process."""
    settings = Settings(home=tmp_path, gateway=GatewaySettings(port=port))
    (tmp_path / "models").mkdir()
    environment = os.environ | {
        "EVERGREEN_HOME": str(tmp_path),
        "EVERGREEN_MODELS_DIR": str(tmp_path / "models"),
        "EVERGREEN_REDIS__URL": redis_server,
        "EVERGREEN_REDIS__NAMESPACE": namespace,
        "EVERGREEN_GATEWAY__PORT": str(port),
        "EVERGREEN_GATEWAY__PROCESSES": "2",
    }
    argv = (sys.executable, "-m", "serving.gateway.main")
    with subprocess.Popen(argv, cwd=ROOT, env=environment) as process:
        until(lambda: len(_children(process)) == 2 and _answers(settings.gateway_url), "they do not start")
        yield settings.gateway_url, process
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert not _answers(settings.gateway_url)


def test_a_killed_process_is_replaced_and_metrics_are_counted_together(
    gateway: tuple[str, subprocess.Popen[bytes]],
) -> None:
    url, parent = gateway
    before = _children(parent)
    assert all(_answers(url) for _ in range(20))
    os.kill(before[0], signal.SIGKILL)
    for _ in range(20):
        try:
            assert httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:  # it was accepted by the one that is dead
            assert httpx.get(f"{url}/healthz").status_code == 200
    until(lambda: len(_children(parent)) == 2 and before[0] not in _children(parent), "it is not replaced")
    page = httpx.get(f"{url}/metrics").text
    assert 'evergreen_gateway_requests_total{route="/healthz",status="200"}' in page


def test_they_end_when_their_parent_is_killed(gateway: tuple[str, subprocess.Popen[bytes]]) -> None:
    _, parent = gateway
    orphans = [psutil.Process(pid) for pid in _children(parent)]
    parent.kill()
    parent.wait()
    alive = psutil.wait_procs(orphans, timeout=20)[1]
    assert not alive
    parent.returncode = 0  # what the fixture expects of an orderly end


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()] if process.poll() is None else []


def _answers(url: str) -> bool:
    return answers(f"{url}/healthz")
