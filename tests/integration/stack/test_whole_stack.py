"""Everything at once, as ``evergreen up`` starts it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from core.discovery import discover
from core.settings import (
    GatewaySettings,
    MlflowSettings,
    PrefectSettings,
    RedisSettings,
    Settings,
    StreamSettings,
    TorchserveSettings,
)
from stack.local import LocalStack
from stack.status import read_status
from stack.sweep import members
from tests.conftest import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    settings = Settings(
        home=tmp_path / "home",
        models_dir=ROOT / "models",
        data_dir=ROOT / "data",
        redis=RedisSettings(port=free_port()),
        mlflow=MlflowSettings(port=free_port()),
        prefect=PrefectSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
        stream=StreamSettings(port=free_port()),
        torchserve=TorchserveSettings(
            inference_port=free_port(), management_port=free_port(), metrics_port=free_port(), heap_mb=256
        ),
    )
    stack = LocalStack(settings)
    yield stack
    stack.down()
    assert members(settings) == []


def addresses_listened_on(settings: Settings) -> set[str]:
    """Local addresses of every TCP socket that a process of the stack, or a child of one, takes connections on."""
    connections = [connection for process in members(settings) for connection in process.net_connections("tcp")]
    found = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert found, "no socket was seen"
    return found


def test_all_of_it_comes_up_works_comes_back_and_goes(stack: LocalStack) -> None:
    settings = stack.settings
    stack.up()
    status = read_status(settings)
    assert status.stack == "up", status
    assert len(status.processes) == 8
    assert addresses_listened_on(settings) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert [u.name for u in status.use_cases] == sorted(discover(settings.models_dir))

    until(
        lambda: scheduled_runs(settings) > 0,
        "Prefect schedules no run of prefect.yaml's deployments",
        within_s=90,
        pause_s=0.2,
    )

    before = {process.name: process.pid for process in status.processes}
    for name in ("mlflow", "torchserve", "gateway", "deployer"):
        os.kill(before[name] or 0, signal.SIGKILL)
    until(
        lambda: read_status(settings).stack == "up", "the killed processes did not come back", within_s=90, pause_s=0.2
    )
    now = {process.name: process for process in read_status(settings).processes}
    assert all(now[name].restarts == 1 for name in ("mlflow", "torchserve", "gateway", "deployer"))
    assert all(now[name].pid == before[name] for name in ("redis", "prefect-server", "prefect-worker", "stream-worker"))

    everything = members(settings)
    assert stack.down() == []
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in everything)


def scheduled_runs(settings: Settings) -> int:
    found = httpx.post(f"{settings.prefect_api_url}/flow_runs/filter", json={"limit": 5}, trust_env=False)
    return len(found.json())
