"""Waiting until the stream workers have come as far as one needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import redis

from core.errors import DependencyDown
from features.streaming.flush import log_stream
from features.streams import Keys, position_of

_POLL_S = 0.005


def settle(client: redis.Redis, keys: Keys, partitions: int = 1, *, timeout_s: float = 60.0) -> dict[int, int]:
    """Wait until all that was written to the streams so far is applied and in the offline log.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        partitions: how many there are.
        timeout_s: how long to wait.

    Returns:
        Partition -> the position that was reached.

    Raises:
        DependencyDown: if the stream workers do not get there in time.
    """
    wanted = {"predictions": _last(client, keys.predictions), "labels": _last(client, keys.labels)}
    reached = {p: position_of(cast(bytes, client.xadd(keys.log(p), {"kind": "flush"}))) for p in range(partitions)}
    wanted |= {log_stream(p): position for p, position in reached.items()}

    def missing() -> str | None:
        flushed = cast(dict[bytes, bytes], client.hgetall(keys.flushed))
        found = {name.decode(): int(position) for name, position in flushed.items()}
        return next((f"{name} {p}" for name, p in wanted.items() if found.get(name, 0) < p), None)

    _wait(missing, timeout_s)
    return reached


def wait_applied(client: redis.Redis, keys: Keys, positions: Mapping[int, int], *, timeout_s: float = 60.0) -> None:
    """Wait until entries at given positions are applied to the online features.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        positions: partition -> position.
        timeout_s: how long to wait.

    Raises:
        DependencyDown: if the stream workers do not get there in time.
    """

    def missing() -> str | None:
        for partition, position in positions.items():
            if int(cast(Any, client.get(keys.cursor(partition))) or 0) < position:
                return f"{log_stream(partition)} {position}"
        return None

    _wait(missing, timeout_s)


def _last(client: redis.Redis, stream: str) -> int:
    found = cast(Any, client.xrevrange(stream, count=1))
    return position_of(found[0][0]) if found else 0


def _wait(missing: Any, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while what := missing():
        if time.monotonic() > deadline:
            raise DependencyDown(
                "the stream worker", f"position {what} not reached within {timeout_s:.0f} s. See: evergreen status"
            )
        time.sleep(_POLL_S)
