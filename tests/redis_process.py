"""A Redis of a test's own, for tests that fill or kill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.waiting import until_up

ONCE = Retry(NoBackoff(), 0)  # else a client that finds nobody tries again for seconds


@contextmanager
def running_redis(server: str, port: int, folder: Path) -> Iterator[str]:
    """Start a server that keeps nothing, wait until it answers, and yield its URL."""
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    url = f"redis://127.0.0.1:{port}/0"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until_up(process, lambda: redis_answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def redis_answers(url: str) -> bool:
    """Whether a Redis is there."""
    with redis.Redis.from_url(url, retry=ONCE) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
