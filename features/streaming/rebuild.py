"""Rebuilding online features from the offline log."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import redis

from core.errors import DependencyDown
from core.use_case import UseCase
from features.batch.materialization import restore
from features.definitions import feature_set
from features.offline.log import OfflineLog
from features.streaming.declared import Declared
from features.streaming.flush import log_stream
from features.streaming.partition_store import LeaseLost, PartitionStore
from features.streaming.restore import Restorer
from features.streams import Entry, Keys, entry_id_of, position_of

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
    they lose their partitions until it is done. If it is interrupted, workers put in place what is missing.

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
    before = int(cast(Any, client.get(keys.partitions)) or partitions)
    if before != partitions:
        _require_written(client, keys, log, before)
    done = 0

    def count(events: int) -> None:
        nonlocal done
        done += events
        progress(done)

    token = f"rebuild-{uuid.uuid4().hex}"
    stores = [PartitionStore(client, keys, p, token, _LEASE_MS) for p in range(max(before, partitions))]
    for store in stores:
        store.seize()
    declared = Declared.of(use_cases.values())
    restorer = Restorer(client, keys, log, declared, partitions, expire=expire, progress=count)
    try:
        _restore_windows(client, keys, log, restorer, stores, declared, partitions)
        for use_case in use_cases.values():
            for view in feature_set(use_case).batch_views:
                restore(client, keys, log, use_case, view, partitions=partitions, expire=expire)
        for p in range(partitions, before):
            client.delete(keys.log(p), keys.cursor(p), keys.counters(p), keys.dropped(p), keys.views(p))
        client.set(keys.partitions, partitions)
    except LeaseLost as lost:
        raise DependencyDown("Redis", f"{lost}: another rebuild runs; wait for it, or run this again") from lost
    finally:
        for store in stores:
            store.release()
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
) -> None:
    is_new = int(cast(Any, client.get(keys.partitions)) or partitions) != partitions
    for store, position in zip(stores, _positions(log, len(stores), is_new), strict=True):
        restorer.reset(store, store.cursor(), position)  # first: from here on, workers know that nothing is in place
        _delete_values(client, keys, store.partition)
        if store.partition < partitions:
            _restore_partition(client, keys, restorer, store, declared, position)


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
    name = keys.log(store.partition)
    client.xtrim(name, minid=entry_id_of(position + 1), approximate=False)
    newest = cast(Any, client.xinfo_stream(name))["last-generated-id"]
    if position_of(newest) < position:
        client.execute_command("XSETID", name, entry_id_of(position))  # type: ignore[no-untyped-call]
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
