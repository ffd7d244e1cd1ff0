"""Looking at online features: how fresh each view is, and what is kept of one entity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

import numpy as np
import redis

from core.clock import from_us, to_us
from core.errors import DependencyDown
from core.use_case import UseCase
from features import tiles
from features.batch.published import head, is_timeless, seen, version_dtype
from features.connection import REDIS_FAULTS
from features.definitions import BatchView, StoredView, WindowView, feature_set, view_digest
from features.online.packing import unpack_each
from features.online.stored_blocks import BatchBlock, WindowBlock
from features.streams import SEQUENCE_BITS, Keys, entity_text, partition_of


@dataclass(frozen=True)
class Shown:
    """What is kept online of one entity in one view.

    Args:
        view: the view's name.
        kind: ``window`` or ``batch``.
        source: the event source, or the kind of table.
        entity: the entity's text; None if one of its fields was not given.
        values: feature -> value as served now.
        degraded: why values are defaults; empty if they are not.
        changed_at: when what is kept was last changed: of a window view the log entry's moment, of a batch view the
            moment the row was true at (timeless: when it was published); None if nothing is kept.
        age: `now` less `changed_at`.
        expires_in: until Redis drops what is kept; None: never, or nothing is kept.
        tiles: how many tiles are kept; 0 of a batch view.
        size_bytes: of the value.
    """

    view: str
    kind: str
    source: str
    entity: str | None
    values: Mapping[str, float]
    degraded: tuple[str, ...]
    changed_at: datetime | None
    age: timedelta | None
    expires_in: timedelta | None
    tiles: int
    size_bytes: int


def freshness(client: redis.Redis, keys: Keys, use_case: UseCase, partitions: int = 1) -> dict[str, datetime | None]:
    """The moment of the newest data in each stored view; None where there is none.

    Of a window view when the newest event of its source that was applied became known; of a batch view the moment of
    its newest row (timeless: of its last publication).

    Raises:
        DependencyDown: if Redis does not answer.
    """
    found: dict[str, datetime | None] = {}
    try:
        for view in feature_set(use_case).stored_views:
            if isinstance(view, WindowView):
                name = f"known_at:{view.source}"
                known = [client.hget(keys.counters(partition), name) for partition in range(partitions)]
                newest_us = max(int(cast(Any, value) or 0) for value in known)
            else:
                newest_us = _newest_us(client, keys, use_case, view)
            found[view.name] = from_us(newest_us) if newest_us else None
    except REDIS_FAULTS as error:
        raise DependencyDown("Redis", str(error)) from error
    return found


def show(
    client: redis.Redis,
    keys: Keys,
    use_case: UseCase,
    entity: Mapping[str, Any],
    *,
    partitions: int = 1,
    now: datetime,
) -> list[Shown]:
    """What is kept online of an entity, view by view.

    Args:
        client: Redis, with ``decode_responses=False``.
        keys: names of the keys.
        use_case: whose views.
        entity: entity field -> value; views keyed by others are shown with defaults.
        partitions: how many there are.
        now: the moment the features are computed for.

    Raises:
        DependencyDown: if Redis does not answer.
    """
    try:
        return [
            _shown(client, keys, use_case, view, entity, partitions, now) for view in feature_set(use_case).stored_views
        ]
    except REDIS_FAULTS as error:
        raise DependencyDown("Redis", str(error)) from error


def _newest_us(client: redis.Redis, keys: Keys, use_case: UseCase, view: BatchView) -> int:
    digest = view_digest(use_case.name, view)
    if is_timeless(view):
        return _moment_us(int(cast(Any, client.get(keys.published(digest))) or 0))
    return int(cast(Any, client.hget(keys.publication(digest), "newest_us")) or 0)


def _moment_us(generation: int) -> int:
    return (generation >> SEQUENCE_BITS) * 1000


def _shown(
    client: redis.Redis,
    keys: Keys,
    use_case: UseCase,
    view: StoredView,
    entity: Mapping[str, Any],
    partitions: int,
    now: datetime,
) -> Shown:
    given, digest = [entity.get(key) for key in view.keys], view_digest(use_case.name, view)
    text = None if None in given else entity_text(given)
    packed, left_ms = None, -1
    if text is not None:
        name = keys.entity(partition_of(text, partitions), digest, text)
        packed, left_ms = cast(bytes | None, client.get(name)), client.pttl(name)
    if isinstance(view, WindowView):
        found = _of_window(view, packed, now)
    else:
        found = _of_batch(view, packed, int(cast(Any, client.get(keys.published(digest))) or 0), now)
    changed_at = from_us(found.changed_us) if found.changed_us else None
    return Shown(
        view=view.name,
        kind="window" if isinstance(view, WindowView) else "batch",
        source=view.source if isinstance(view.source, str) else str(view.source.spec()["kind"]),
        entity=text,
        values=dict(zip(view.columns, found.values, strict=True)),
        degraded=found.degraded,
        changed_at=changed_at,
        age=now - changed_at if changed_at else None,
        expires_in=timedelta(milliseconds=left_ms) if left_ms >= 0 else None,
        tiles=found.tiles,
        size_bytes=len(packed or b""),
    )


class _Content(NamedTuple):
    values: list[float]
    degraded: tuple[str, ...]
    changed_us: int
    tiles: int


def _of_window(view: WindowView, packed: bytes | None, now: datetime) -> _Content:
    degraded: list[list[str]] = [[]]
    block, position = WindowBlock(view).read([packed], None, np.array([to_us(now)], dtype=np.int64), degraded)
    _, _, rows = unpack_each([packed], tiles.layout(view).width)
    values = block[0].astype(np.float32).tolist()
    return _Content(values, tuple(degraded[0]), _moment_us(int(position[0])), len(rows))


def _of_batch(view: BatchView, packed: bytes | None, pointer: int, now: datetime) -> _Content:
    degraded: list[list[str]] = [[]]
    block = BatchBlock(view).read([packed], pointer, None, np.array([to_us(now)], dtype=np.int64), degraded)
    version = seen(packed, version_dtype(len(view.outputs)).itemsize, pointer)
    generation, row_at_us = head(version) if version else (0, 0)
    changed_us = _moment_us(generation) if is_timeless(view) else row_at_us
    return _Content(block[0].astype(np.float32).tolist(), tuple(degraded[0]), changed_us, 0)
