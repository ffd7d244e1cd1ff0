"""What a peer's process is told by the benchmark, in its environment."""

from __future__ import annotations

import os


def redis_port() -> int:
    """Of the Redis that holds the features."""
    return int(os.environ["BENCH_REDIS_PORT"])


def model() -> str:
    """Path of the network."""
    return os.environ["BENCH_MODEL"]


def option(name: str) -> str:
    """Anything else, ``BENCH_<NAME>``."""
    return os.environ[f"BENCH_{name}"]
