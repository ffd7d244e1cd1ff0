"""Writing the streams to the offline log, exactly once, and trimming what is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import pandas as pd
import redis

from core.use_case import UseCase
from features.offline.log import OfflineLog, midnight
from features.streaming import scripts
from features.streaming.declared import Declared
from features.streaming.partition_store import applied_between
from features.streaming.records import label_tables, log_tables, prediction_tables
from features.streams import Entry, Keys, entry_id_of, position_of

logger = logging.getLogger(__name__)
_AT_ONCE = 10_000
_AT_ONCE_BYTES = 16_000_000
_ANSWERS_AT_ONCE = 500
Tables = dict[str, pd.DataFrame]


class Flusher:
    """Moves entries from the streams to the offline log.

    Anybody may flush anything at any time: the offline log takes each position once.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        log: the offline log.
        use_cases: whose fields are declared.
        declared: the same, gathered.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        log: OfflineLog,
        use_cases: Mapping[str, UseCase],
        declared: Declared,
    ) -> None:
        self._client, self._keys, self._log = client, keys, log
        self._use_cases, self._declared = use_cases, declared
        self._trim = client.register_script(scripts.TRIM)
        self._days: dict[str, datetime] = {}

    def flush_partition(self, partition: int, cursor: int, *, is_settled: bool = True) -> int:
        """Write a partition's log up to an applied position; returns how many rows there were.

        Where the cursor was set back meanwhile, what it will pass again is left for later.
        `is_settled` says whether those who wait for the position may go on: every view is in place.
        """
        stream, keys = log_stream(partition), self._keys
        trimmed = [keys.log(partition), keys.counters(partition), keys.dropped(partition), keys.cursor(partition)]
        start, rows = self._log.flushed().get(stream, 0), 0
        while start < cursor:
            entries, dropped = applied_between(
                self._client, keys, partition, start, cursor, limit=_AT_ONCE, limit_bytes=_AT_ONCE_BYTES
            )
            if not entries:
                break
            start = entries[-1].position
            rows += self._write(stream, start, log_tables(entries, self._declared, dropped))
            ids = [entry_id_of(entry.position) for entry in entries]
            self._trim(trimmed, [entry_id_of(start + 1), str(start), *ids])
        if is_settled:
            self._client.hset(self._keys.flushed, stream, str(start))
        return rows

    def flush_predictions(self) -> int:
        """Write the predictions there are; returns how many rows there were."""
        return self._flush_answers("predictions", self._keys.predictions, prediction_tables)

    def flush_labels(self) -> int:
        """Write the labels there are; returns how many rows there were."""
        return self._flush_answers("labels", self._keys.labels, label_tables)

    def _flush_answers(
        self, stream: str, key: str, tables: Callable[[Sequence[Entry], Mapping[str, UseCase]], Tables]
    ) -> int:
        start, rows = self._log.flushed().get(stream, 0), 0
        while found := self._client.xrange(key, min=f"({entry_id_of(start)}", count=_ANSWERS_AT_ONCE):
            entries = cast(list[Entry], found)
            start = position_of(entries[-1][0])
            rows += self._write(stream, start, tables(entries, self._use_cases))
            self._client.xtrim(key, minid=entry_id_of(start + 1), approximate=False)
        self._client.hset(self._keys.flushed, stream, str(start))
        return rows

    def _write(self, stream: str, until: int, tables: Tables) -> int:
        self._log.write(stream, until, tables)
        known = [cast(Any, frame["known_at"].max()) for frame in tables.values() if len(frame)]
        if known and (today := midnight(max(known).to_pydatetime())) > self._days.get(stream, today):
            self._log.compact(stream, before=today)
        if known:
            self._days[stream] = max(today, self._days.get(stream, today))
        return sum(len(frame) for frame in tables.values())


def log_stream(partition: int) -> str:
    """What a partition's log is called in the offline log."""
    return f"log-{partition}"
