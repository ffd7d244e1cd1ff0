"""Rebuilding online features from the offline log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import orjson
import pandas as pd
import redis

from core.use_case import UseCase
from features.apply import Applier, stored_views
from features.definitions import BatchView
from features.offline import OfflineLog
from features.point_in_time import to_us_array
from features.streams import Entry, Keys, entry_id_of

_CHUNK = 5000


def rebuild(
    client: redis.Redis,
    keys: Keys,
    log: OfflineLog,
    use_cases: Mapping[str, UseCase],
    *,
    expire: bool = True,
    progress: Callable[[int], None] = lambda events: None,
) -> int:
    """Delete the online features and compute them anew from everything in the offline log.

    The stream worker may run, but no event may arrive meanwhile.

    Args:
        client: Redis.
        keys: names of the keys.
        log: the offline log.
        use_cases: whose views.
        expire: as for `Applier`.
        progress: told the number of rows after each chunk.

    Returns:
        How many events were applied.

    Raises:
        redis.WatchError: if the stream worker applied something meanwhile; run it again.
    """
    target = log.flushed().get("log", 0)
    for pattern in (keys.entity("*", "*", "*", "*"), f"{keys.namespace}:seen:*"):
        for name in client.scan_iter(match=pattern, count=1000):
            client.unlink(name)
    client.delete(keys.cursor, keys.counters)
    applier = Applier(client, keys, stored_views(use_cases.values()), expire=expire)
    cursor, applied = 0, 0
    for entry in _entries(log, use_cases):
        done = applier.apply([entry], cursor)
        cursor, applied = done.position, applied + done.events
        progress(applied)
    client.set(keys.cursor, max(target, cursor))
    return applied


def digest(client: redis.Redis, keys: Keys) -> str:
    """SHA-256 over all online feature values, in the order of their keys."""
    names = sorted(cast(bytes, name) for name in client.scan_iter(match=keys.entity("*", "*", "*", "*"), count=1000))
    total = hashlib.sha256()
    for start in range(0, len(names), _CHUNK):
        part = names[start : start + _CHUNK]
        for name, value in zip(part, cast(list[bytes], client.mget(part)), strict=True):
            total.update(name + b"\x00" + value + b"\x00")
    return total.hexdigest()


def _entries(log: OfflineLog, use_cases: Mapping[str, UseCase]) -> Iterator[Entry]:
    for source in log.sources():
        events = log.events(source)
        for start in range(0, len(events), _CHUNK):
            part = events.iloc[start : start + _CHUNK]
            yield _entry(b"events", source, int(part["position"].iloc[-1]), _event_dicts(part))
    for use_case in use_cases.values():
        for stored in stored_views([use_case]):
            if not isinstance(stored.view, BatchView):
                continue
            rows = log.batch(use_case.name, stored.view.name, stored.digest)
            if rows.empty:
                continue
            for position, group in rows.groupby("position", sort=True):
                data = {
                    "as_of_us": int(to_us_array(group["as_of"])[0]),
                    "rows": dict(
                        zip(group["entity"], group[list(stored.view.outputs)].to_numpy().tolist(), strict=True)
                    ),
                }
                yield _entry(b"batch", stored.name, int(cast(int, position)), data)


def _event_dicts(events: pd.DataFrame) -> list[dict[str, Any]]:
    frame = events.drop(columns=["at", "known_at", "position"]).assign(at_us=to_us_array(events["at"]))
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[return-value]


def _entry(kind: bytes, name: str, position: int, data: Any) -> Entry:
    packed = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
    return entry_id_of(position).encode(), {b"kind": kind, b"name": name.encode(), b"data": packed}
