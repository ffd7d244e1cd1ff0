"""Memory that Redis needs for an entity in a view, beyond what is kept of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import redis

from bench import data, declared
from bench.measure import Result
from bench.ours_online import fill
from bench.ours_stream import Stream
from bench.redis_server import connect, redis_server
from bench.shapes import SHAPES
from features.definitions import feature_set, view_digest
from features.online.packing import WORD
from features.streams import Keys

_TARGET = 200
_NAMESPACE = "memory"
_AT_ONCE = 2000


def run(events: int = 500_000) -> list[Result]:
    """Measure once: it is the same every time.

    Args:
        events: how many are applied before the window views are weighed.
    """
    return [_batch_views(), *_window_views(events)]


def _batch_views() -> Result:
    """Growth of a Redis while two views of 20 float32 are published."""
    shape = SHAPES["pair"]
    with redis_server() as port, connect(port) as client:
        before = _used(client)
        fill(client, _NAMESPACE, shape, datetime.now(UTC))
        each = (_used(client) - before) / (data.ONLINE_ENTITIES * len(shape.views))
    return Result(
        "memory, batch view of 20 columns: beyond its values, per entity", each - 4 * len(data.COLUMNS), "bytes",
        "lower", _TARGET, n=1,
    )  # fmt: skip


def _window_views(events: int) -> list[Result]:
    """Growth of an empty Redis while it is given what another one has in its window views."""
    with redis_server() as full_port, redis_server() as empty_port, tempfile.TemporaryDirectory() as folder:
        stream = Stream(full_port, _NAMESPACE, events, 500, False, Path(folder))
        stream.fill()
        stream.apply()
        with connect(empty_port) as empty:
            before, entities, rows = _used(empty), 0, 0
            for names in _value_keys(stream.client):
                held = cast(list[bytes], stream.client.mget(names))
                left_ms = _left_ms(stream.client, names)
                with empty.pipeline(transaction=False) as pipe:
                    for name, value, left in zip(names, held, left_ms, strict=True):
                        pipe.set(name, value, px=left if left > 0 else None)
                    pipe.execute()
                entities += len(names)
                rows += sum(len(value) - WORD for value in held)
            each = (_used(empty) - before) / entities
    what = f"memory, window view of two windows after {events:,} events"
    return [
        Result(f"{what}: beyond its tiles, per entity", each - rows / entities, "bytes", "lower", _TARGET, n=1),
        Result(f"{what}: its tiles, per entity", rows / entities, "bytes", "lower", n=1),
    ]


def _value_keys(client: redis.Redis) -> Iterator[list[bytes]]:
    use_case, keys = declared.stream(), Keys(_NAMESPACE)
    for view in feature_set(use_case).window_views:
        pattern = keys.entity(0, view_digest(use_case.name, view), "*")
        found = list(client.scan_iter(match=pattern, count=_AT_ONCE))
        for first in range(0, len(found), _AT_ONCE):
            yield found[first : first + _AT_ONCE]


def _left_ms(client: redis.Redis, names: list[bytes]) -> list[int]:
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.pttl(name)
        return cast(list[int], pipe.execute())


def _used(client: redis.Redis) -> int:
    return int(cast(Any, client.info("memory"))["used_memory"])
