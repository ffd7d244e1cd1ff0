"""A Redis of the benchmarks' own, set up as the stack sets up its."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from stack.processes import REDIS_KEEPS, find_redis_server

_HOST = "127.0.0.1"
_READY_S = 10.0


@contextmanager
def redis_server() -> Iterator[int]:
    """The port of a Redis that lives as long as the context; over TCP, as in the stack.

    Raises:
        RuntimeError: if it does not answer in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        argv = (
            find_redis_server(),
            *("--port", str(port), "--bind", _HOST, "--dir", folder),
            *REDIS_KEEPS,
        )
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
            try:
                _wait(port)
                yield port
            finally:
                process.terminate()


def connect(port: int) -> redis.Redis:
    """A client set up as the product sets up its."""
    return redis.Redis.from_url(f"redis://{_HOST}:{port}/0")


def _wait(port: int) -> None:
    until = time.monotonic() + _READY_S
    with connect(port) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError as error:
                if time.monotonic() > until:
                    raise RuntimeError(f"The benchmark's Redis did not answer on port {port}.") from error
                time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        port: int = listener.getsockname()[1]
        return port
