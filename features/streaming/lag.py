"""How far behind a log's reader is: for whoever watches, without what the worker itself needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import redis

from features.streams import SEQUENCE_BITS, Keys, entry_id_of, position_of


@dataclass(frozen=True)
class Lag:
    """How far the online features of a partition are behind its log.

    Args:
        entries: about how many wait to be applied.
        seconds: age of the oldest of them by Redis's clock; 0 if there is none.
        length: entries in the stream, applied or not: what is not yet in the offline log.
    """

    entries: int
    seconds: float
    length: int


def lag(client: redis.Redis, keys: Keys, partitions: int) -> list[Lag]:
    """How far each partition is behind."""
    return [_lag(client, keys, partition) for partition in range(partitions)]


def _lag(client: redis.Redis, keys: Keys, partition: int) -> Lag:
    log = keys.log(partition)
    with client.pipeline(transaction=False) as pipe:
        pipe.get(keys.cursor(partition))
        pipe.xlen(log)
        pipe.hmget(keys.counters(partition), ["entries", "trimmed"])
        cursor, length, (applied, trimmed) = cast(Any, pipe.execute())
    oldest = cast(Any, client.xrange(log, min=f"({entry_id_of(int(cursor or 0))}", count=1))
    if not oldest:
        return Lag(0, 0.0, length)
    waiting = max(1, min(length, length - int(applied or 0) + int(trimmed or 0)))
    age_s = time.time() - (position_of(oldest[0][0]) >> SEQUENCE_BITS) / 1000
    return Lag(waiting, max(0.0, age_s), length)
