"""A partition that this worker has the lease of: applied in order, its missing features put in place on the way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import redis

from features.offline.log import OfflineLog
from features.streaming.apply import Applied, Applier
from features.streaming.declared import Declared, StoredWindow
from features.streaming.entries import LogEntry
from features.streaming.flush import Flusher, log_stream
from features.streaming.partition_store import IDS_IN_PLACE, Change, PartitionStore
from features.streaming.restore import Restorer, follow
from features.streams import Keys, position_of

_LEAST_BYTES, _MOST_BYTES = 250_000, 2_000_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What the partitions of a worker share.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        log: the offline log.
        declared: what is declared.
        flusher: writes the logs.
        partitions: how many there are.
        expire: as for `features.streaming.apply.Applier`.
        batch_entries: most entries applied in one step.
        cache_bytes: about how much of the newest values each partition holds in memory.
        threads: where a batch is committed while the next one is decoded.
    """

    client: redis.Redis
    keys: Keys
    log: OfflineLog
    declared: Declared
    flusher: Flusher
    partitions: int
    expire: bool
    batch_entries: int
    cache_bytes: int
    threads: ThreadPoolExecutor


class Holding:
    """Applies one partition. Of no more use once it raised LeaseLost or an error of Redis.

    Args:
        around: what the partitions share.
        store: the partition; its lease was just acquired.
    """

    def __init__(self, around: Surroundings, store: PartitionStore) -> None:
        self.store = store
        self._around = around
        self._restorer = Restorer(
            around.client, around.keys, around.log, around.declared, around.partitions, expire=around.expire
        )
        cursor, in_place = self._recover()
        store.begin(cursor)
        windows = around.declared.windows
        ready = [window for window in windows if window.digest in in_place]
        self._missing = [window for window in windows if window.digest not in in_place]
        self._applier = Applier(
            store, around.keys, around.declared, ready, expire=around.expire, cache_bytes=around.cache_bytes
        )
        self._end = self._newest()
        self._batch_bytes = _LEAST_BYTES
        self._under_way: Future[None] | None = None

    @property
    def cursor(self) -> int:
        """Position of the last entry applied."""
        return self._applier.applied

    @property
    def remembered(self) -> int:
        """How many ids are held in memory."""
        return self._applier.remembered

    def step(self) -> Applied | None:
        """Apply the next entries, if there are any; put missing views in place once what waited is applied.

        While there is more to come, the batch is committed as the next one is decoded, and batches grow: many
        events of an entity cost one write. Otherwise it is committed on return.
        """
        entries = self.store.read(self._around.batch_entries, self._batch_bytes)
        prepared = self._applier.prepare(entries) if entries else None
        self.wait()
        if prepared is not None and self._has_more(entries) and not prepared.done.flush_requested:
            self._under_way = self._around.threads.submit(self._applier.finish, prepared)
        elif prepared is not None:
            self._applier.finish(prepared)
        if self._missing and (not entries or self.cursor >= self._end):
            self.wait()
            self._put_in_place()
        return prepared.done if prepared else None

    def wait(self) -> None:
        """Wait for the batch that is being committed."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def flush(self) -> int:
        """Write what is applied to the offline log; returns how many rows there were."""
        self.wait()
        return self._around.flusher.flush_partition(self.store.partition, self.cursor, is_settled=not self._missing)

    def _has_more(self, entries: Sequence[LogEntry]) -> bool:
        """Whether a batch was as large as it may be; adapts how large that is."""
        size = sum(len(entry.data) for entry in entries)
        is_full = size >= self._batch_bytes or len(entries) >= self._around.batch_entries
        self._batch_bytes = min(2 * self._batch_bytes, _MOST_BYTES) if is_full else _LEAST_BYTES
        return is_full

    def _recover(self) -> tuple[int, set[str]]:
        """Where to go on, and what is in place; what Redis lost is taken from the offline log."""
        around, store = self._around, self.store
        cursor, in_place = store.cursor(), store.views()
        flushed = around.log.flushed().get(log_stream(store.partition), 0)
        current = {window.digest for window in around.declared.windows}
        if cursor < flushed:
            logger.warning("Redis has lost partition %d: restoring it from the offline log", store.partition)
            self._restorer.reset(store, cursor, flushed)
            cursor, in_place = flushed, set()
        elif cursor == 0 and not in_place:
            cursor = self._begin_after_others()
            if not cursor:  # nothing was ever applied, so there is nothing to put in place
                store.commit(Change(cursor=0, views=[IDS_IN_PLACE, *sorted(current)]))
                return cursor, current
        if IDS_IN_PLACE not in in_place:
            around.flusher.flush_partition(store.partition, cursor, is_settled=False)
            self._restorer.restore_ids(store, cursor)
        # nobody goes on with the values of views that are no longer declared
        if gone := in_place - current - {IDS_IN_PLACE}:
            around.client.srem(around.keys.views(store.partition), *gone)
        return cursor, in_place

    def _begin_after_others(self) -> int:
        """Where a partition that never applied anything begins: after what others brought of its entities, if anything.

        Redis may be new and split otherwise, or a key group may be, whose history other partitions have written.
        """
        around, name = self._around, self._around.keys.log(self.store.partition)
        flushed = around.log.flushed()
        newest = max((p for stream, p in flushed.items() if stream.startswith("log-")), default=0)
        if not newest:
            return 0
        waiting = cast(list[Any], around.client.xrange(name, count=1))
        position = min(newest, position_of(waiting[0][0]) - 1) if waiting else newest
        self._restorer.reset(self.store, 0, position)
        self.store.begin(position)
        follow(around.client, name, position)
        return position

    def _put_in_place(self) -> None:
        for partition in range(self._around.partitions):
            store = PartitionStore(self._around.client, self._around.keys, partition, "", 1)
            self._around.flusher.flush_partition(partition, store.cursor(), is_settled=False)
        for window in self._missing:
            self._put_view_in_place(window)
        self._applier.keep(self._missing)
        self._missing = []

    def _put_view_in_place(self, window: StoredWindow) -> None:
        events = self._restorer.restore_view(self.store, window, self.cursor)
        logger.info(
            "view %s of partition %d is in place, from %d events of the offline log",
            window.view.name, self.store.partition, events,
        )  # fmt: skip

    def _newest(self) -> int:
        """Position of the newest entry in the log."""
        found = cast(Any, self._around.client.xrevrange(self._around.keys.log(self.store.partition), count=1))
        return position_of(found[0][0]) if found else 0


Hold = Callable[[PartitionStore], Holding]
