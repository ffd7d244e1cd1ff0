"""Applying a partition's log to the online features, exactly once.

One step takes the entries after the cursor, drops ids that were seen, computes the new values, and writes them
together with the seen ids, the acknowledgements and the new cursor in one step of Redis that fails if the lease or
the cursor is not as it was. Killed anywhere, the step either happened or did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from features import tiles
from features.streaming.declared import Declared, StoredWindow
from features.streaming.entries import Events, LogEntry, decode, fitted, key_column
from features.streaming.partition_store import Change, PartitionStore, Values, split
from features.streaming.seen_ids import DAY_US, SeenIds, hash_ids
from features.streaming.value_cache import ValueCache
from features.streaming.window_values import coded_values, entity_codes, measured, updated
from features.streams import SEQUENCE_BITS, Keys, entry_id_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass
class Applied:
    """What one step did: entries, events that count, duplicates, late events, and events that fit no declaration.

    Of late events and of those that fit no declaration, first copies alone are counted.
    """

    entries: int = 0
    events: int = 0
    duplicates: int = 0
    late: int = 0
    unfit: int = 0
    position: int = 0
    flush_requested: bool = False

    def __iadd__(self, other: Applied) -> Applied:
        for name in ("entries", "events", "duplicates", "late", "unfit"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.flush_requested |= other.flush_requested
        return self


@dataclass
class _Touched:
    """What a batch does to one view: rows of new events by entity, and the last position that touched each."""

    window: StoredWindow
    names: list[bytes]
    owner: Ints
    rows: Ints
    positions: Ints


@dataclass
class Prepared:
    """A batch that is decoded and freed of duplicates, and what it will do."""

    done: Applied
    change: Change
    touched: list[_Touched] = field(default_factory=list)


class Applier:
    """Moves one partition's features forward along its log.

    Args:
        store: the partition; its lease is held.
        keys: names of the keys.
        declared: what is declared.
        windows: the views to keep, of those declared.
        expire: let values and seen ids expire by the machine's clock; off when history is replayed.
        cache_bytes: about how much of the newest values is held in memory.
    """

    def __init__(
        self,
        store: PartitionStore,
        keys: Keys,
        declared: Declared,
        windows: Sequence[StoredWindow],
        *,
        expire: bool,
        cache_bytes: int = 256_000_000,
    ) -> None:
        self._store, self._keys, self._declared, self._expire = store, keys, declared, expire
        self._windows = list(windows)
        self._seen = SeenIds(store.seen)
        self._marks = store.marks()
        each_bytes = cache_bytes // max(1, len(declared.windows))
        self._caches = {window.digest: ValueCache(each_bytes) for window in declared.windows}
        self.cursor = self.applied = store.cursor()

    @property
    def remembered(self) -> int:
        """How many ids are held in memory."""
        return len(self._seen)

    def keep(self, windows: Sequence[StoredWindow]) -> None:
        """Keep further views, whose values are in place up to the cursor."""
        self._windows += windows

    def apply(self, entries: Sequence[LogEntry]) -> Applied:
        """Apply entries that follow the cursor without a gap.

        Raises:
            LeaseLost: if somebody else has the partition; nothing was changed and this applier is of no more use.
        """
        prepared = self.prepare(entries)
        self.finish(prepared)
        return prepared.done

    def prepare(self, entries: Sequence[LogEntry]) -> Prepared:
        """The part that needs no value of the views, so that the batch before may still be under way."""
        done = Applied(entries=len(entries), position=entries[-1].position)
        done.flush_requested = any(entry.kind == b"flush" for entry in entries)
        change = Change(cursor=self.cursor, to=done.position, entries=[entry_id_of(e.position) for e in entries])
        prepared = Prepared(done, change)
        found, broken = decode(entries)
        for events in found.values():
            self._add_source(events, prepared)
        done.unfit += sum(entry.is_first for entry in broken)
        counted = ("entries", "events", "duplicates", "late", "unfit")
        change.counts = {name: getattr(done, name) for name in counted}
        self.cursor = done.position
        return prepared

    def finish(self, prepared: Prepared) -> None:
        """The rest: read the values, compute the new ones, commit. In the order of `prepare`."""
        change = prepared.change
        for touched, (held, has_expiry) in zip(prepared.touched, self._held(prepared.touched), strict=True):
            window, names = touched.window, touched.names
            lengths, joined = updated(window.view, held, touched.owner, touched.rows, touched.positions)
            expire_s = window.keep_s if self._expire else 0
            change.values.append(Values(self._prefix(window), expire_s, names, lengths, joined, has_expiry))
            self._caches[window.digest].put(names, split(lengths, joined))
        self._store.commit(change)
        self.applied = prepared.done.position

    def _held(self, touched: Sequence[_Touched]) -> list[tuple[list[bytes | None], Bools]]:
        """Per view the present values, and which of them were written lately."""
        held = [self._caches[t.window.digest].get(t.names) for t in touched]
        missing = [[i for i, value in enumerate(values) if value is None] for values, _ in held]
        wanted = [
            (self._prefix(t.window), [t.names[i] for i in places]) for t, places in zip(touched, missing, strict=True)
        ]
        if any(missing):
            for (values, _), places, found in zip(held, missing, self._store.values(wanted), strict=True):
                for i, value in zip(places, found, strict=True):
                    values[i] = value
        return held

    def _prefix(self, window: StoredWindow) -> str:
        return self._keys.entity(self._store.partition, window.digest, "")

    def _add_source(self, events: Events, prepared: Prepared) -> None:
        source, done = events.source, prepared.done
        columns, fits = fitted(events, self._declared.fields.get(source, ()))
        is_first = self._take_ids(events, prepared.change)
        late_after = self._declared.late_after_us(source)
        is_late = np.zeros(len(events), dtype=bool)
        if late_after is not None:
            is_late = events.at_us < events.known_at_us - late_after
        _note_dropped(events, is_first, prepared.change)
        counts = is_first & fits & ~is_late
        done.events += int(counts.sum())
        done.duplicates += int((~is_first).sum())
        is_first_copy = events.of_entries([entry.is_first for entry in events.entries]).astype(bool)
        done.late += int((is_first & fits & is_late & is_first_copy).sum())
        done.unfit += int((is_first & ~fits & is_first_copy).sum())
        self._mark(events, prepared.change)
        self._touch(events, columns, counts, prepared)

    def _take_ids(self, events: Events, change: Change) -> Bools:
        """Which events are the first with their id. Those of days long past are too late, or taken as they come."""
        source, is_first = events.source, np.ones(len(events), dtype=bool)
        days = events.at_us // DAY_US
        floor = self._marks.get(f"floor:{source}")
        if floor is None:
            floor = self._first_day(events, int(events.known_at_us.min()))
        known = np.flatnonzero(days >= floor)
        hashed = hash_ids(events.columns["id"])
        is_first[known], fresh = self._seen.take(source, events.at_us[known], hashed[known])
        expire_s = self._declared.remembered_s(source) if self._expire else 0
        for day, new in fresh.items():
            change.seen[self._keys.seen(self._store.partition, source, day)] = (new.astype("<u8").tobytes(), expire_s)
        return is_first

    def _mark(self, events: Events, change: Change) -> None:
        """Note how far a source is known, and drop the ids that no longer matter."""
        source = events.source
        newest, floor = f"known_at:{source}", f"floor:{source}"
        known_at_us = int(events.known_at_us.max())
        first_day = self._first_day(events, known_at_us)
        change.marks[newest] = self._marks[newest] = max(known_at_us, self._marks.get(newest, known_at_us))
        old = self._marks.get(floor)
        if old is None or first_day > old:
            change.marks[floor] = self._marks[floor] = first_day
            gone = range(old, min(first_day, old + 1000)) if old is not None else range(0)
            change.forget += [self._keys.seen(self._store.partition, source, day) for day in gone]
            self._seen.forget(source, first_day)

    def _first_day(self, events: Events, known_at_us: int) -> int:
        """The first day whose ids matter; Redis's own clock bounds what that of a gateway may claim."""
        passed_us = (events.entries[-1].position >> SEQUENCE_BITS) * 1000
        return self._declared.first_day(events.source, min(known_at_us, passed_us))

    def _touch(self, events: Events, columns: dict[str, npt.NDArray[Any]], counts: Bools, prepared: Prepared) -> None:
        groups: dict[tuple[str, ...], tuple[Ints, list[str]]] = {}
        for window in self._windows:
            view = window.view
            if view.source != events.source:
                continue
            if view.keys not in groups:
                found = [coded_values(key_column(events, columns[key], key)) for key in view.keys]
                groups[view.keys] = entity_codes(found)
            codes, names = groups[view.keys]
            is_in = counts & (codes >= 0) & events.serves(view.by)
            rows = np.flatnonzero(is_in & (events.at_us >= events.known_at_us - view.lateness_us))
            if not len(rows):
                continue
            present, owner = np.unique(codes[rows], return_inverse=True)
            fresh = tiles.event_rows(view, events.at_us[rows], measured(view, columns, rows))
            positions = np.empty(len(present), dtype=np.int64)
            positions[owner] = events.position[rows]  # of several, the last assignment stays: the newest
            texts = [names[i].encode() for i in present.tolist()]
            prepared.touched.append(_Touched(window, texts, owner.astype(np.int64, copy=False), fresh, positions))


def _note_dropped(events: Events, is_first: Bools, change: Change) -> None:
    again = np.flatnonzero(~is_first)
    for position in np.unique(events.position[again]).tolist():
        rows = events.row[again[events.position[again] == position]]
        entry = entry_id_of(position)
        change.dropped[entry] = change.dropped.get(entry, b"") + rows.astype("<u4").tobytes()
