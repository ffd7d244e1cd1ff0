"""Rebuilding online features from the offline log."""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis

from core.errors import DependencyDown
from core.use_case import UseCase
from features.batch.materialization import forget, restore
from features.connection import REDIS_FAULTS
from features.definitions import feature_set
from features.offline.log import OfflineLog
from features.streaming.declared import Declared
from features.streaming.flush import log_stream
from features.streaming.partition_store import LeaseLost, PartitionStore
from features.streaming.restore import Restorer, follow
from features.streams import Entry, Keys, entry_id_of

logger = logging.getLogger(__name__)
_CHUNK = 5000
_LEASE_MS = 600_000
_DIGEST = "[0-9a-f]" * 8


def rebuild(
    client: redis.Redis,
    keys: Keys,
    log: OfflineLog,
    use_cases: Mapping[str, UseCase],
    *,
    partitions: int = 1,
    expire: bool = True,
    progress: Callable[[int], None] = lambda events: None,
) -> int:
    """Delete the online features and compute them anew from everything in the offline log.

    Entries that are not in the offline log yet are applied by the stream worker afterwards. Stream workers may run:
    they lose their partitions until it is done. If it is interrupted, workers put in place what is missing; if the
    number of partitions was to change, they refuse to work until a rebuild has finished.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        log: the offline log.
        use_cases: whose views.
        partitions: how many there are from now on.
        expire: as for `features.streaming.apply.Applier`.
        progress: told the number of events so far, each counted once per view.

    Returns:
        How many events were applied, each counted once per view.

    Raises:
        DependencyDown: if the number of partitions changes and a log has entries that are not in the offline log, or
            if two of these run at once.
    """
    stored = int(cast(Any, client.hget(keys.partitions, "count")) or partitions)
    before, is_new = abs(stored), stored != partitions
    if is_new:
        _require_written(client, keys, log, before)
    done = 0

    def count(events: int) -> None:
        nonlocal done
        done += events
        progress(done)

    token = f"rebuild-{uuid.uuid4().hex}"
    stores = [PartitionStore(client, keys, p, token, _LEASE_MS) for p in range(max(before, partitions))]
    declared = Declared.of(use_cases.values())
    batch_views = [(u, view) for u in use_cases.values() for view in feature_set(u).batch_views]
    restorer = Restorer(client, keys, log, declared, partitions, expire=expire, progress=count)
    with _holding(stores):
        if is_new:
            _require_written(client, keys, log, before)  # again, now that nobody else applies or trims
            client.hset(keys.partitions, "count", -before)
        for use_case, view in batch_views:  # first: nobody may be told of a generation whose rows are gone
            forget(client, keys, log, use_case, view)
        _restore_windows(client, keys, log, restorer, stores, declared, partitions, is_new)
        for use_case, view in batch_views:
            restore(client, keys, log, use_case, view, partitions=partitions, expire=expire)
        for p in range(partitions, before):
            client.delete(keys.log(p), keys.cursor(p), keys.counters(p), keys.dropped(p), keys.views(p))
        client.hset(keys.partitions, "count", partitions)
    return done


def digest(client: redis.Redis, keys: Keys, partitions: int = 1) -> str:
    """SHA-256 over all online feature values of the partitions, in the order of their keys."""
    total = hashlib.sha256()
    for p in range(partitions):
        names = sorted(_value_keys(client, keys, p))
        for start in range(0, len(names), _CHUNK):
            part = names[start : start + _CHUNK]
            for name, value in zip(part, cast(list[bytes], client.mget(part)), strict=True):
                total.update(name + b"\x00" + value + b"\x00")
    return total.hexdigest()


def _restore_windows(
    client: redis.Redis,
    keys: Keys,
    log: OfflineLog,
    restorer: Restorer,
    stores: Sequence[PartitionStore],
    declared: Declared,
    partitions: int,
    is_new: bool,
) -> None:
    positions = _positions(log, len(stores), is_new)
    for store, position in zip(stores, positions, strict=True):
        restorer.reset(store, store.cursor(), position)  # first: from here on, workers know that nothing is in place
        _delete_values(client, keys, store.partition)
    for store, position in zip(stores[:partitions], positions[:partitions], strict=True):
        _restore_partition(client, keys, restorer, store, declared, position)


@contextmanager
def _holding(stores: Sequence[PartitionStore]) -> Iterator[None]:
    """Take all leases from whoever has them, and keep them for as long as it takes."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(_LEASE_MS / 1000 / 10):
            for store in stores:
                try:
                    store.renew()
                except REDIS_FAULTS as error:  # the next commit says whether a lease was lost
                    logger.info("could not renew the lease of partition %d: %s", store.partition, error)

    for store in stores:
        store.seize()
    thread = threading.Thread(target=renew, name="renew-leases", daemon=True)
    thread.start()
    try:
        yield
    except LeaseLost as lost:
        raise DependencyDown("Redis", f"{lost}: another rebuild runs; wait for it, or run this again") from lost
    finally:
        stop.set()
        thread.join()
        for store in stores:
            store.release()


def _positions(log: OfflineLog, partitions: int, is_new: bool) -> list[int]:
    """Where each partition goes on.

    Entities of a new partition come from any of the old ones, whose positions theirs must follow.
    """
    flushed = {stream: position for stream, position in log.flushed().items() if stream.startswith("log-")}
    if is_new:
        return [max(flushed.values(), default=0)] * partitions
    return [flushed.get(log_stream(p), 0) for p in range(partitions)]


def _restore_partition(
    client: redis.Redis, keys: Keys, restorer: Restorer, store: PartitionStore, declared: Declared, position: int
) -> None:
    store.begin(position)
    client.xtrim(keys.log(store.partition), minid=entry_id_of(position + 1), approximate=False)
    follow(client, keys.log(store.partition), position)
    restorer.restore_ids(store, position)
    for window in declared.windows:
        restorer.restore_view(store, window, position)


def _require_written(client: redis.Redis, keys: Keys, log: OfflineLog, partitions: int) -> None:
    flushed = log.flushed()
    for p in range(partitions):
        position = flushed.get(log_stream(p), 0)
        waiting = cast(list[Entry], client.xrange(keys.log(p), min=f"({entry_id_of(position)}"))
        if any(fields[b"kind"] == b"events" for _, fields in waiting):
            raise DependencyDown(
                "The stream worker",
                f"the log of partition {p} holds events that are not in the offline log yet; the number of partitions "
                f"can only change from {partitions} once a worker for that number has written them",
            )


def _value_keys(client: redis.Redis, keys: Keys, partition: int) -> Iterator[bytes]:
    return cast(Iterator[bytes], client.scan_iter(match=f"{keys.tag(partition)}:{_DIGEST}:*", count=1000))


def _delete_values(client: redis.Redis, keys: Keys, partition: int) -> None:
    names: list[bytes] = []
    for name in _value_keys(client, keys, partition):
        names.append(name)
        if len(names) == _CHUNK:
            client.unlink(*names)
            names = []
    if names:
        client.unlink(*names)
