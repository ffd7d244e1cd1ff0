"""A real MLServer for tests: a server of the Open Inference Protocol that loads what Evergreen publishes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.settings import HostSettings, RedisSettings, Settings
from tests.torchserve_process import free_ports
from tests.waiting import answers, until_up

ROOT = Path(__file__).resolve().parents[1]
MLSERVER = ROOT / ".venv-mlserver" / "bin" / "mlserver"


def mlserver_settings(home: Path, redis_url: str, namespace: str, port: int) -> Settings:
    """Settings of a stack whose model host is an MLServer on that port."""
    host = HostSettings(
        kind="open_inference",
        url=f"http://127.0.0.1:{port}",
        repository=str(home / "repository"),
        flavour="mlserver",
    )
    return Settings(home=home, redis=RedisSettings(url=redis_url, namespace=namespace), host=host)


@contextmanager
def running_mlserver(home: Path, redis_url: str, namespace: str) -> Iterator[Settings]:
    """An MLServer that lives as long as the block: one process, HTTP only as far as that can be had."""
    assert MLSERVER.exists(), "there is no MLServer to test against. Run: make .venv-mlserver/.installed"
    port, grpc_port = free_ports(2)
    settings = mlserver_settings(home, redis_url, namespace, port)
    folder, log = Path(settings.host.repository), home / "mlserver.log"
    folder.mkdir(parents=True)  # MLServer takes its settings from the folder it loads models from
    own = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": grpc_port,  # cannot be switched off
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(own))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(MLSERVER), "start", str(folder)], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until_up(process, lambda: answers(f"{settings.host.url}/v2/health/ready"), log)
        yield settings
    finally:
        process.terminate()
        process.wait(timeout=30)
