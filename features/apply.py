"""Applying the log to the online features, exactly once.

One step reads the entries after the cursor and the values they touch, computes the new values, and writes
them together with the new cursor in one Redis transaction that fails if anybody moved the cursor in
between. Killed anywhere, the step either happened or did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson
import redis

from core.use_case import UseCase
from features import tiles
from features.columns import column_array
from features.definitions import BatchView, WindowView, feature_set, view_digest
from features.online import pack_batch_row
from features.streams import Entry, Keys, position_of

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class StoredView:
    """A stored view with the names its values are kept under."""

    use_case: UseCase
    view: WindowView | BatchView
    digest: str

    @property
    def name(self) -> str:
        """The name its batch publications carry in the log."""
        return f"{self.use_case.name}/{self.view.name}@{self.digest}"

    def key(self, keys: Keys, entity: object) -> str:
        """Where the values of one entity are."""
        return keys.entity(self.use_case.name, self.view.name, self.digest, entity)


def stored_views(use_cases: Iterable[UseCase]) -> list[StoredView]:
    """Every window and batch view of the given use cases."""
    found: list[StoredView] = []
    for use_case in use_cases:
        features = feature_set(use_case)
        views: list[WindowView | BatchView] = [*features.window_views, *features.batch_views]
        for view in views:
            found.append(StoredView(use_case, view, view_digest(view)))
    return found


@dataclass
class Applied:
    """What one step did."""

    entries: int = 0
    events: int = 0
    duplicates: int = 0
    late: int = 0
    position: int = 0
    flush_requested: bool = False


@dataclass
class _Change:
    writes: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)


class Applier:
    """Moves the online features forward along the log.

    Args:
        client: Redis, with ``decode_responses=False``.
        keys: names of the keys.
        views: the views to keep.
        expire: let values and seen ids expire by the machine's clock; off when history is replayed.
    """

    def __init__(self, client: redis.Redis, keys: Keys, views: Sequence[StoredView], *, expire: bool = True) -> None:
        self._client = client
        self._keys = keys
        self._expire = expire
        self._batches = {v.name: v for v in views if isinstance(v.view, BatchView)}
        self._windows: dict[str, list[StoredView]] = {}
        for stored in views:
            if isinstance(stored.view, WindowView):
                self._windows.setdefault(stored.view.source, []).append(stored)
        spans = [v.view.slots * v.view.tile if isinstance(v.view, WindowView) else v.view.ttl for v in views]
        self._keep_s = int(max(spans, default=timedelta(0)).total_seconds()) + 2 * 86_400

    def cursor(self) -> int:
        """Position of the last applied entry; 0 before the first."""
        return int(cast(bytes | None, self._client.get(self._keys.cursor)) or 0)

    def apply(self, entries: Sequence[Entry], expected_cursor: int) -> Applied:
        """Apply entries, all of them after `expected_cursor`, and move the cursor to the last.

        Raises:
            redis.WatchError: if the cursor was moved by another worker; nothing was changed.
        """
        done = Applied(entries=len(entries), position=position_of(entries[-1][0]))
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(self._keys.cursor)  # type: ignore[no-untyped-call]
            if int(cast(Any, pipe.get(self._keys.cursor)) or 0) != expected_cursor:
                raise redis.WatchError("the cursor was moved by another worker")
            change = self._compute(entries, done)
            pipe.multi()
            for name, packed in change.writes.items():
                pipe.set(name, packed, ex=self._keep_s if self._expire else None)
            for name, ids in change.seen.items():
                pipe.sadd(name, *ids)
                if self._expire:
                    pipe.expire(name, self._keep_s)
            pipe.hincrby(self._keys.counters, "events", done.events)
            pipe.hincrby(self._keys.counters, "duplicates", done.duplicates)
            pipe.hincrby(self._keys.counters, "late", done.late)
            pipe.set(self._keys.cursor, done.position)
            pipe.execute()
        return done

    def _compute(self, entries: Sequence[Entry], done: Applied) -> _Change:
        change = _Change()
        events: dict[str, list[dict[str, Any]]] = {}
        for _, fields in entries:
            kind, name = fields[b"kind"], fields.get(b"name", b"").decode()
            if kind == b"events":
                events.setdefault(name, []).extend(orjson.loads(fields[b"data"]))
            elif kind == b"batch" and name in self._batches:
                self._publish(self._batches[name], orjson.loads(fields[b"data"]), change)
            elif kind == b"flush":
                done.flush_requested = True
        for source, rows in events.items():
            fresh = self._drop_duplicates(source, rows, change)
            done.events += len(fresh)
            done.duplicates += len(rows) - len(fresh)
            for stored in self._windows.get(source, []):
                done.late += self._add(stored, fresh, change)
        return change

    def _publish(self, stored: StoredView, data: Mapping[str, Any], change: _Change) -> None:
        for entity, values in data["rows"].items():
            change.writes[stored.key(self._keys, entity)] = pack_batch_row(data["as_of_us"], values)

    def _drop_duplicates(self, source: str, rows: list[dict[str, Any]], change: _Change) -> list[dict[str, Any]]:
        by_set: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            by_set.setdefault(self._keys.seen(source, row["at_us"] // DAY_US), {}).setdefault(row["id"], row)
        with self._client.pipeline(transaction=False) as pipe:
            for name, group in by_set.items():
                pipe.smismember(name, list(group))
            answers = pipe.execute() if by_set else []
        fresh: list[dict[str, Any]] = []
        for (name, group), known in zip(by_set.items(), answers, strict=True):
            new = [row for row, is_known in zip(group.values(), known, strict=True) if not is_known]
            if new:
                change.seen[name] = [row["id"] for row in new]
                fresh += new
        return fresh

    def _add(self, stored: StoredView, rows: list[dict[str, Any]], change: _Change) -> int:
        view = cast(WindowView, stored.view)
        if not rows:
            return 0
        names = [stored.key(self._keys, row[view.entity]) for row in rows]
        unique = {name: i for i, name in enumerate(dict.fromkeys(names))}
        rings = tiles.empty_rings(view, len(unique))
        found = cast(list[bytes | None], self._client.mget(list(unique)))
        for i, packed in enumerate(found):
            if packed is not None:
                rings[i] = np.frombuffer(packed, dtype="<i8").reshape(rings.shape[1:])
        owner = np.array([unique[name] for name in names], dtype=np.int64)
        late = tiles.apply(view, rings, owner, event_increments(stored, rows))
        change.writes.update({name: rings[i].tobytes() for name, i in unique.items()})
        return late


def event_increments(stored: StoredView, rows: Sequence[Mapping[str, Any]]) -> tiles.Increments:
    """What decoded events (with ``at_us`` and fields) add to a window view."""
    view = cast(WindowView, stored.view)
    declared = {f.name: f for f in stored.use_case.source(view.source).fields}
    measured: dict[str, npt.NDArray[np.float64]] = {
        name: column_array(declared[name], (row.get(name) for row in rows)).astype(np.float64)
        for name in dict.fromkeys(name for name, _ in view.measures)
    }
    at_us = np.fromiter((row["at_us"] for row in rows), dtype=np.int64, count=len(rows))
    return tiles.increments(view, at_us, measured)
