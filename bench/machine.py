"""The facts of this machine and of what was measured on it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.peers import PINS
from stack.processes import find_redis_server

_OURS = ("numpy", "pandas", "pyarrow", "redis", "scipy", "torchserve", "onnxruntime", "uvicorn", "mlflow")


def facts() -> list[str]:
    """Sentences in Markdown."""
    gigabytes = psutil.virtual_memory().total / 2**30
    return [
        f"Machine: {os.cpu_count()} CPUs ({_processor()}), {gigabytes:.0f} GB, {platform.platform(terse=True)}.",
        f"Python {platform.python_version()}, {_redis()}, {', '.join(f'{name} {version(name)}' for name in _OURS)}.",
        f"Peers: {', '.join(_peers())}.",
    ]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _redis() -> str:
    told = subprocess.run([find_redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return "Redis " + told.partition("v=")[2].split()[0]


def _peers() -> list[str]:
    """Every pin of every environment, once."""
    paths = sorted(PINS.parent.glob("peers*.txt"))
    pins = [line for path in paths for line in path.read_text().splitlines() if "==" in line]
    named = [pin.partition("[")[0].partition("==")[0] + " " + pin.partition("==")[2] for pin in pins]
    return list(dict.fromkeys(named))
