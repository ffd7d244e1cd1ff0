"""What child processes are told: the resolved settings, as variables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from core.settings import THREADS_SLEEP, Settings, inherited_environment

PROJECT_ROOT = Path(__file__).resolve().parents[1]
STACK_MARKER = "EVERGREEN_STACK"
PROCESS_MARKER = "EVERGREEN_PROCESS"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def absolute(settings: Settings) -> Settings:
    """The same settings with every path absolute, so that processes in other folders agree on them."""
    folders = {name: getattr(settings, name).absolute() for name in ("home", "models_dir", "data_dir")}
    own = settings.gateway
    files = {name: str(Path(path).absolute()) for name in ("tls_cert", "tls_key") if (path := getattr(own, name))}
    return settings.model_copy(update={**folders, "gateway": own.model_copy(update=files)})


def settings_environment(settings: Settings) -> dict[str, str]:
    """Variables from which another process reads exactly these settings.

    Example:
        >>> settings_environment(Settings(home="/tmp/eg"))["EVERGREEN_HOME"]
        '/tmp/eg'
    """
    return dict(_variables(absolute(settings), "EVERGREEN_"))


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment every local process starts with."""
    return {
        **THREADS_SLEEP,
        **inherited_environment(),
        **settings_environment(settings),
        STACK_MARKER: stack_marker(settings),
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_HOME": str(settings.home.absolute() / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def single_threaded() -> dict[str, str]:
    """Variables that keep numeric libraries from starting a thread per core in processes that need none."""
    return dict.fromkeys(_ONE_THREAD, "1")


def stack_marker(settings: Settings) -> str:
    """What every process of this stack, and everything they start, carries in its environment."""
    return hashlib.sha256(str(settings.home.absolute()).encode()).hexdigest()[:16]


def _variables(group: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name in type(group).model_fields:
        value: Any = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        elif isinstance(value, SecretStr):
            yield f"{prefix}{name.upper()}", value.get_secret_value()
        elif isinstance(value, dict):
            plain = {key: v.get_secret_value() if isinstance(v, SecretStr) else v for key, v in value.items()}
            yield f"{prefix}{name.upper()}", json.dumps(plain)
        else:
            yield f"{prefix}{name.upper()}", str(value)
