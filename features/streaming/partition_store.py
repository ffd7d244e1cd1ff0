"""One partition in Redis, as the worker that has its lease sees it: every change is one step that checks the lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import redis

from features.streaming import scripts
from features.streaming.entries import LogEntry
from features.streams import Keys, entry_id_of, position_of

Ints = npt.NDArray[np.int64]
GROUP = "features"
"""Name of the consumer group."""
IDS_IN_PLACE = "ids"
"""Member of the set of views that says that the seen ids are in place."""
_FIELDS = 6
_HAS_EXPIRY = np.uint32(1 << 31)


class LeaseLost(Exception):
    """Another worker has the partition, or what Redis holds of it is not what this one believes."""


@dataclass
class Values:
    """Packed values of one view to write.

    Args:
        prefix: of their keys.
        expire_s: seconds after which they expire; 0: never.
        names: what follows the prefix, UTF-8, n.
        lengths: of the values in bytes, shape (n,).
        joined: the values, one after the other.
        has_expiry: which of them are there and expire late enough, shape (n,); None: none.
    """

    prefix: str
    expire_s: int
    names: list[bytes]
    lengths: Ints
    joined: bytes
    has_expiry: npt.NDArray[np.bool_] | None = None


@dataclass
class Change:
    """What one step does to a partition.

    Args:
        cursor: where the cursor must be.
        to: where it goes; None: it stays.
        entries: those applied, in order.
        values: to write.
        seen: hashes to append, by key, and seconds after which the key expires (0: never).
        dropped: rows of entries that were duplicates, packed.
        forget: keys to delete.
        counts: what is added to the counters.
        marks: what is set among the counters.
        views: digests of views that are in place from now on.
    """

    cursor: int
    to: int | None = None
    entries: list[str] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    seen: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    dropped: dict[str, bytes] = field(default_factory=dict)
    forget: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)


class PartitionStore:
    """Reads and changes one partition.

    Args:
        client: Redis or a cluster, with ``decode_responses=False``.
        keys: names of the keys.
        partition: which.
        token: what the lease holds while it is this worker's.
        lease_ms: how long a lease lasts without being renewed.
    """

    def __init__(self, client: redis.Redis, keys: Keys, partition: int, token: str, lease_ms: int) -> None:
        self.partition = partition
        self._client, self._keys, self._token, self._lease_ms = client, keys, token, lease_ms
        self._lease, self._cursor, self._log = keys.lease(partition), keys.cursor(partition), keys.log(partition)
        self._read, self._values = client.register_script(scripts.READ), client.register_script(scripts.VALUES)
        self._commit, self._take = client.register_script(scripts.COMMIT), client.register_script(scripts.TAKE)

    def acquire(self) -> bool:
        """Take the lease if nobody has it."""
        return bool(self._client.set(self._lease, self._token, nx=True, px=self._lease_ms))

    def seize(self) -> None:
        """Take the lease from whoever has it: his next step fails."""
        self._client.set(self._lease, self._token, px=self._lease_ms)

    def renew(self) -> bool:
        """Keep the lease; whether it is still this worker's."""
        return bool(self._client.eval(scripts.RENEW, 1, self._lease, self._token, str(self._lease_ms)))

    def release(self) -> None:
        """Give the lease back."""
        self._client.eval(scripts.RELEASE, 1, self._lease, self._token)

    def cursor(self) -> int:
        """Position of the last entry applied; 0 before the first."""
        return int(cast(Any, self._client.get(self._cursor)) or 0)

    def views(self) -> set[str]:
        """What is in place: digests of views, and `IDS_IN_PLACE`."""
        return {m.decode() for m in cast(set[bytes], self._client.smembers(self._keys.views(self.partition)))}

    def marks(self) -> dict[str, int]:
        """The counters and marks."""
        found = cast(dict[bytes, bytes], self._client.hgetall(self._keys.counters(self.partition)))
        return {name.decode(): int(value) for name, value in found.items()}

    def seen(self, source: str, day: int) -> bytes:
        """The hashes of the ids of one source's events of one day."""
        return cast(bytes | None, self._client.get(self._keys.seen(self.partition, source, day))) or b""

    def begin(self, cursor: int) -> None:
        """Have the entries after the cursor delivered, also those that a worker before had read.

        Raises:
            LeaseLost: if the lease is not this worker's.
        """
        if not self._take([self._lease, self._log], [self._token, GROUP, entry_id_of(cursor)]):
            raise LeaseLost(f"the lease of partition {self.partition} was lost")

    def read(self, entries: int, limit_bytes: int) -> list[LogEntry]:
        """The next entries: at most so many, and not many more bytes than the limit.

        Raises:
            LeaseLost: if the lease is not this worker's.
        """
        arguments: list[Any] = [self._token, self._lease_ms, GROUP, entries, limit_bytes]
        try:
            found = self._read([self._lease, self._log], arguments)
        except redis.ResponseError as error:
            if "NOGROUP" in str(error):
                raise LeaseLost(f"the log of partition {self.partition} was emptied") from error
            raise
        if found is None:
            raise LeaseLost(f"the lease of partition {self.partition} was lost")
        return unpack_entries(*found)

    def values(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes]]:
        """Values of many keys, in one round trip.

        Args:
            wanted: per view the prefix and what follows it in each key.

        Returns:
            Per view its values; empty where there is none.
        """
        arguments: list[Any] = []
        for prefix, names in wanted:
            arguments += [prefix, _lengths(names).tobytes(), b"".join(names)]
        found = self._values([self._cursor], arguments)
        return [
            split(np.frombuffer(found[i], dtype="<u4").astype(np.int64), found[i + 1]) for i in range(0, len(found), 2)
        ]

    def commit(self, change: Change) -> None:
        """Make a change. All that may hinder it is looked at before the first write, so it is made whole or not at all.

        Raises:
            LeaseLost: if the lease is not this worker's, the cursor is elsewhere, or entries after it were skipped;
                nothing was changed.
            redis.ResponseError: while the partition is moved to another node of a cluster; nothing was changed.
        """
        p, keys = self.partition, self._keys
        names = [self._lease, self._cursor, self._log, keys.counters(p), keys.dropped(p), keys.views(p)]
        answer = self._commit(names, [self._token, self._lease_ms, GROUP, *_arguments(change)])
        if answer != b"done":
            raise LeaseLost(f"the {answer.decode()} of partition {p} is not what this worker believed")


def applied_between(
    client: redis.Redis, keys: Keys, partition: int, after: int, until: int, *, limit: int, limit_bytes: int
) -> tuple[list[LogEntry], dict[str, bytes]]:
    """Applied entries of a partition's log, as they are at one moment.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        partition: which.
        after: position after which.
        until: position up to which; none after the cursor, whoever moved it.
        limit: of entries.
        limit_bytes: not many more bytes than this.

    Returns:
        The entries, and for those with duplicates, by id: the rows that are, packed.
    """
    names = [keys.log(partition), keys.dropped(partition), keys.cursor(partition)]
    arguments = [entry_id_of(after), entry_id_of(until), str(limit), str(limit_bytes)]
    cursor, dropped, packed = cast(Any, client.eval(scripts.APPLIED, len(names), *names, *arguments))
    entries = [entry for entry in unpack_entries(*packed) if entry.position <= int(cursor)]
    return entries, {name.decode(): rows for name, rows in zip(dropped[::2], dropped[1::2], strict=True)}


def unpack_entries(ids: bytes, lengths: bytes, joined: bytes) -> list[LogEntry]:
    """Entries as the scripts pack them: their ids, the length of each of six fields, the fields joined."""
    stops = np.cumsum(np.frombuffer(lengths, dtype="<u4"), dtype=np.int64).tolist()
    found: list[LogEntry] = []
    start = 0
    for i, entry_id in enumerate(ids.split()):
        kind, source, by, first, known_at, data = stops[_FIELDS * i : _FIELDS * (i + 1)]
        found.append(
            LogEntry(
                position_of(entry_id), joined[start:kind], joined[kind:source].decode(), joined[source:by].decode(),
                joined[by:first] != b"0", int(joined[first:known_at] or 0), joined[known_at:data],
            )
        )  # fmt: skip
        start = data
    return found


def split(lengths: Ints, joined: bytes) -> list[bytes]:
    """Parts of given lengths."""
    return [joined[start:stop] for start, stop in pairwise([0, *np.cumsum(lengths).tolist()])]


def _lengths(names: Iterable[bytes]) -> npt.NDArray[np.uint32]:
    return np.fromiter(map(len, names), dtype="<u4")


def _arguments(change: Change) -> list[Any]:
    what: Mapping[str, Any] = {
        "cursor": str(change.cursor),
        "after": entry_id_of(change.cursor),
        "seen": [[key, str(expire_s)] for key, (_, expire_s) in change.seen.items()],
        "dropped": list(change.dropped),
        "values": [[values.prefix, str(values.expire_s)] for values in change.values],
        "forget": change.forget,
        "counts": {name: str(count) for name, count in change.counts.items() if count},
        "marks": {name: str(value) for name, value in change.marks.items()},
        "views": change.views,
        "entries": change.entries,
    }
    if change.to is not None:
        what = {**what, "to": str(change.to)}
    if change.entries:
        what = {**what, "first": change.entries[0]}
    arguments: list[Any] = [orjson.dumps(what)]
    arguments += [packed for packed, _ in change.seen.values()]
    arguments += change.dropped.values()
    for values in change.values:
        lengths = np.empty((len(values.names), 2), dtype="<u4")
        lengths[:, 0], lengths[:, 1] = _lengths(values.names), values.lengths
        if values.has_expiry is not None:
            lengths[values.has_expiry, 0] |= _HAS_EXPIRY
        arguments += [lengths.tobytes(), b"".join(values.names), values.joined]
    return arguments
