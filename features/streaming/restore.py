"""Putting a partition's online features in place from the offline log: of a new view, or of all after a loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import redis

from features import tiles
from features.offline.grouping import coded
from features.offline.log import OfflineLog
from features.online.packing import pack_windows
from features.streaming.declared import Declared, StoredWindow
from features.streaming.partition_store import IDS_IN_PLACE, Change, PartitionStore, Values
from features.streaming.seen_ids import DAY_US, hash_ids
from features.streaming.window_values import entity_codes, extend, measured
from features.streams import SEQUENCE_BITS, Keys, entry_id_of, partition_of, position_of

Ints = npt.NDArray[np.int64]
Progress = Callable[[int], None]
_EVENTS_AT_ONCE = 200_000
_VALUES_AT_ONCE = 5_000


def follow(client: redis.Redis, stream: str, position: int) -> None:
    """Let the next entry of a stream, which must exist, come after a position."""
    newest = cast(Any, client.xinfo_stream(stream))["last-generated-id"]
    if position_of(newest) < position:
        client.execute_command("XSETID", stream, entry_id_of(position))  # type: ignore[no-untyped-call]


class Restorer:
    """Computes what a partition holds from the offline log and writes it, under the partition's lease.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        log: the offline log; all that was applied is in it.
        declared: what is declared.
        partitions: how many there are.
        expire: as for `features.streaming.apply.Applier`.
        progress: told the number of events after each chunk.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        log: OfflineLog,
        declared: Declared,
        partitions: int,
        *,
        expire: bool,
        progress: Progress = lambda events: None,
    ) -> None:
        self._client, self._keys, self._log, self._declared = client, keys, log, declared
        self._partitions, self._expire, self._progress = partitions, expire, progress

    def reset(self, store: PartitionStore, cursor: int, to: int) -> None:
        """Go on after position `to`, with nothing in place."""
        p, keys = store.partition, self._keys
        seen = [name.decode() for name in self._client.scan_iter(match=f"{keys.tag(p)}:seen:*", count=1000)]
        gone = [keys.views(p), keys.dropped(p), keys.counters(p), *seen]
        store.commit(Change(cursor=cursor, to=to, forget=gone))

    def restore_ids(self, store: PartitionStore, cursor: int) -> None:
        """Put the ids of all days that still matter in place, and how far each source is known."""
        change = Change(cursor=cursor, views=[IDS_IN_PLACE])
        for source in self._log.sources():
            known = self._log.event_table(source, columns=["known_at"])
            if not known.num_rows:
                continue
            newest_us = int(_us(known["known_at"]).max())
            floor = self._declared.first_day(source, newest_us)
            change.marks |= {f"known_at:{source}": newest_us, f"floor:{source}": floor}
            for day, hashed in self._ids(source, floor, store.partition):
                key = self._keys.seen(store.partition, source, day)
                expire_s = self._declared.remembered_s(source) if self._expire else 0
                change.seen[key] = (hashed.astype("<u8").tobytes(), expire_s)
                change.forget.append(key)
        store.commit(Change(cursor=cursor, forget=change.forget))
        change.forget = []
        store.commit(change)

    def restore_view(self, store: PartitionStore, window: StoredWindow, cursor: int) -> int:
        """Put the values of one view in place; returns how many events they are made of."""
        view, prefix = window.view, self._keys.entity(store.partition, window.digest, "")
        names, owner, rows, positions, events = self._values(window, store.partition)
        oldest = 0
        if self._expire:
            oldest = int((time.time() - window.keep_s) * 1000) << SEQUENCE_BITS
        kept = np.flatnonzero((positions > 0) & (positions >= oldest))
        expire_s = window.keep_s if self._expire else 0
        stops = np.searchsorted(owner, np.arange(len(names)), side="right")
        starts = np.searchsorted(owner, np.arange(len(names)), side="left")
        width = tiles.layout(view).width
        for first in range(0, len(kept), _VALUES_AT_ONCE):
            part = kept[first : first + _VALUES_AT_ONCE]
            picked = np.concatenate([np.arange(starts[i], stops[i]) for i in part.tolist()])
            local = np.repeat(np.arange(len(part)), (stops - starts)[part])
            lengths, joined = pack_windows(positions[part], local, rows[picked].reshape(-1, width))
            values = Values(prefix, expire_s, [names[i].encode() for i in part.tolist()], lengths, joined)
            store.commit(Change(cursor=cursor, values=[values]))
        store.commit(Change(cursor=cursor, views=[window.digest]))
        return events

    def _values(self, window: StoredWindow, partition: int) -> tuple[list[str], Ints, Ints, Ints, int]:
        """Names of the entities, owners and rows, last positions, and how many events were counted."""
        view = window.view
        fields = dict.fromkeys(name for a in view.aggregates for name in (a.field, a.over) if name is not None)
        columns = list(dict.fromkeys(["at", "known_at", "position", *view.keys, *fields]))
        table = self._log.event_table(view.source, by=view.by, columns=columns)
        owner, rows = np.empty(0, dtype=np.int64), tiles.empty_rows(view, (0,))
        if not table.num_columns or not table.num_rows:
            return [], owner, rows, np.empty(0, dtype=np.int64), 0
        entity, names = self._entities(table, view.keys, partition)
        at_us, known_us = _us(table["at"]), _us(table["known_at"])
        counted = np.flatnonzero((entity >= 0) & (at_us >= known_us - view.lateness_us))
        positions = np.zeros(len(names), dtype=np.int64)
        np.maximum.at(positions, entity[counted], table["position"].to_numpy()[counted])
        given = {name: _values_of(table[name]) for name in fields}
        for start in range(0, len(counted), _EVENTS_AT_ONCE):
            part = counted[start : start + _EVENTS_AT_ONCE]
            fresh = tiles.event_rows(view, at_us[part], measured(view, given, part))
            owner, rows = extend(view, (owner, rows), (entity[part], fresh))
            self._progress(len(part))
        return names, owner, rows, positions, len(counted)

    def _entities(self, table: pa.Table, keys: tuple[str, ...], partition: int) -> tuple[Ints, list[str]]:
        """The entity of each row, -1 where there is none or it is of another partition, and their names."""
        found = [coded(table[key]) for key in keys]
        entity, names = entity_codes([(c.codes, c.values.to_pylist()) for c in found])
        here = np.array([partition_of(name, self._partitions) == partition for name in names], dtype=bool)
        if len(names):
            entity = np.where((entity >= 0) & here[entity], entity, -1)
        return entity, names

    def _ids(self, source: str, floor: int, partition: int) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
        """Each day and the sorted hashes of the ids that the partition has seen of it."""
        groups = self._declared.groups.get(source, ())
        needed = ["id", "at", *dict.fromkeys(key for group in groups for key in group)]
        table = self._log.event_table(source, columns=needed)
        days = _us(table["at"]) // DAY_US
        recent = np.flatnonzero(days >= floor)
        table, days = table.take(pa.array(recent)), days[recent]
        here = np.zeros(len(days), dtype=bool)
        somewhere = np.zeros(len(days), dtype=bool)
        for group in groups:
            codes, names = entity_codes([(c.codes, c.values.to_pylist()) for c in map(coded, map(table.column, group))])
            places = np.array([partition_of(name, self._partitions) for name in names] + [-1], dtype=np.int64)[codes]
            here |= places == partition
            somewhere |= places >= 0
        ids = table["id"].cast(pa.string()).to_pylist()
        if self._partitions == 1:
            here[:] = True
        else:
            lone = np.flatnonzero(~somewhere)
            here[lone] = [partition_of(ids[i], self._partitions) == partition for i in lone.tolist()]
        hashed = hash_ids(ids)
        for day in np.unique(days[here]).tolist():
            yield day, np.unique(hashed[here & (days == day)])


def _us(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)


def _values_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A field as `features.tiles.event_rows` wants it."""
    if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
        return np.asarray(column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False), dtype=object)
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
