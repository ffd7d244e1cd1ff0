"""Online features: packed values in Redis, read in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from redis.cluster import RedisCluster

from core.errors import DependencyDown
from core.use_case import UseCase
from features.columns import MatrixPlan
from features.connection import REDIS_FAULTS, fetch
from features.definitions import BatchView, feature_set, view_digest
from features.online.entities import Asked, KeyGroup, prefixes
from features.online.instances import Instances
from features.online.multiget import MultiGet
from features.online.stored_blocks import BatchBlock, WindowBlock
from features.streams import Keys

_REREADS = 20
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Assembled:
    """The features of n instances, as served.

    Args:
        matrix: shape (n, features), float32, columns in the order of the feature set.
        degraded: for each row, why some values are defaults: ``<view>: unknown entity`` or ``<view>: stale``.
        known: what was known of each stored view, shape (n, stored views): of a window view the position of the last
            log entry that touched the value (0: there is none), of a batch view the newest generation that readers
            saw (0: there was none).
        known_views: the columns of `known`, ``<view>@<digest>``.
    """

    matrix: npt.NDArray[np.float32]
    degraded: list[list[str]]
    known: Ints
    known_views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored view: where its values are, and what makes columns of them."""

    name: str
    by: str
    block: WindowBlock | BatchBlock
    prefixes: list[bytes]
    pointer: int | None  # which of the pointers is the view's; None: it has none


class FeatureReader:
    """Assembles feature matrices for one use case.

    Args:
        use_case: whose features.
        client: Redis or a cluster, with ``decode_responses=False``.
        namespace: prefix of the keys.
        partitions: how many partitions the online features are in.
    """

    def __init__(self, use_case: UseCase, client: redis.Redis, namespace: str, partitions: int = 1) -> None:
        features, keys = feature_set(use_case), Keys(namespace)
        fields = {f.name: f for f in use_case.entities}
        views = features.stored_views
        digests = [view_digest(use_case.name, view) for view in views]
        batch = [view.name for view in views if isinstance(view, BatchView)]
        self._fields = use_case.request_fields
        self._client = client
        self._get_many = MultiGet(client)
        self._plan = MatrixPlan(features)
        self._groups = {v.by: KeyGroup([fields[key] for key in v.keys], partitions) for v in views}
        self._stored = [
            _Stored(
                name=view.name,
                by=view.by,
                block=BatchBlock(view) if isinstance(view, BatchView) else WindowBlock(view),
                prefixes=prefixes(keys, digest, partitions),
                pointer=batch.index(view.name) if view.name in batch else None,
            )
            for view, digest in zip(views, digests, strict=True)
        ]
        self._known_views = tuple(f"{view.name}@{digest}" for view, digest in zip(views, digests, strict=True))
        self._pointer_keys = [
            keys.published(digest).encode() for view, digest in zip(views, digests, strict=True) if view.name in batch
        ]
        self._read = self._read_cluster if isinstance(client, RedisCluster) else self._read_server
        self._last_pointers: list[int] = []

    def assemble(self, instances: Instances | Sequence[Mapping[str, Any]], at_us: Ints) -> Assembled:
        """The features of `instances` at their times, with one round trip to Redis.

        Args:
            instances: n, or n mappings with the entities and request fields.
            at_us: shape (n,), microseconds since 1970 UTC.

        Raises:
            DependencyDown: if Redis does not answer.
            KeyError: if an instance lacks an entity that is not nullable.
            TypeError, ValueError, OverflowError: if a field is not of its type.
        """
        rows = instances if isinstance(instances, Instances) else Instances(instances)
        asked = {by: group.ask(rows) for by, group in self._groups.items()}
        columns = rows.arrays(self._fields, at_us)
        try:
            pointers, packed = self._read(asked)
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error
        return self._put_together(asked, pointers, packed, columns)

    def assemble_unread(self, instances: Instances, at_us: Ints, reason: str) -> Assembled:
        """The features as they are when nothing is known of any entity: for when Redis is away.

        Each row is degraded for that one reason, if the use case has stored views at all. As nothing was known, an
        audit finds the same values. Raises what `assemble` raises for fields.
        """
        asked = {by: group.ask(instances) for by, group in self._groups.items()}
        columns = instances.arrays(self._fields, at_us)
        nothing: list[list[bytes | None]] = [
            [None] * (len(asked[stored.by].texts) + asked[stored.by].has_null) for stored in self._stored
        ]
        found = self._put_together(asked, [0] * len(self._pointer_keys), nothing, columns)
        reasons = [reason] if self._stored else []
        return replace(found, degraded=[list(reasons) for _ in range(len(instances))])

    def _put_together(
        self,
        asked: Mapping[str, Asked],
        pointers: Sequence[int],
        packed: Sequence[Sequence[bytes | None]],
        columns: Mapping[str, npt.NDArray[Any]],
    ) -> Assembled:
        at_us = columns["at"]
        degraded: list[list[str]] = [[] for _ in range(len(at_us))]
        known = np.empty((len(at_us), len(self._stored)), dtype=np.int64)
        blocks: dict[str, npt.NDArray[Any]] = {}
        for i, (stored, values) in enumerate(zip(self._stored, packed, strict=True)):
            place, block = asked[stored.by].place, stored.block
            if isinstance(block, BatchBlock):
                pointer = pointers[stored.pointer or 0]
                blocks[stored.name] = block.read(values, pointer, place, at_us, degraded)
                known[:, i] = pointer
            else:
                blocks[stored.name], known[:, i] = block.read(values, place, at_us, degraded)
        return Assembled(self._plan.fill(blocks, columns), degraded, known, self._known_views)

    def _read_server(self, asked: Mapping[str, Asked]) -> tuple[list[int], list[list[bytes | None]]]:
        """The pointers, and the values of each stored view: one MGET, which nothing comes in between of."""
        names = self._pointer_keys.copy()
        for stored in self._stored:
            names += asked[stored.by].keys(stored.prefixes)
        found = self._get_many(names) if names else []
        return self._split(found, asked)

    def _read_cluster(self, asked: Mapping[str, Asked]) -> tuple[list[int], list[list[bytes | None]]]:
        """As `_read_server`. The nodes answer at different moments, so the pointers must not move meanwhile.

        What is read is consistent with pointers that were the same before and after it. Those before are known from
        the call before, so this takes one round trip unless something is just being published.
        """
        names, order = self._by_partition(asked)
        for _ in range(_REREADS):
            answers = fetch(self._client, names)
            flat = [answers[i] for i in order]
            pointers, packed = self._split(flat, asked)
            before, self._last_pointers = self._last_pointers, pointers
            if before == pointers and (not self._is_only_newer(asked, pointers, packed) or self._unmoved(pointers)):
                return pointers, packed
        raise DependencyDown("Redis", f"batch views were published {_REREADS} times while they were read")

    def _by_partition(self, asked: Mapping[str, Asked]) -> tuple[list[list[bytes]], list[int]]:
        """The keys, grouped so that each group is of one hash tag; and for each key in order, where its answer is."""
        groups: dict[int, list[bytes]] = {-1: self._pointer_keys} if self._pointer_keys else {}
        placed = [(-1, i) for i in range(len(self._pointer_keys))]
        for stored in self._stored:
            entities = asked[stored.by]
            tags = entities.partitions or [0] * len(entities.texts)
            for partition, key in zip(tags, entities.keys(stored.prefixes), strict=True):
                group = groups.setdefault(partition, [])
                placed.append((partition, len(group)))
                group.append(key)
        starts, total = {}, 0
        for partition, group in groups.items():
            starts[partition] = total
            total += len(group)
        return list(groups.values()), [starts[partition] + i for partition, i in placed]

    def _split(
        self, found: Sequence[bytes | None], asked: Mapping[str, Asked]
    ) -> tuple[list[int], list[list[bytes | None]]]:
        stop = len(self._pointer_keys)
        pointers = [int(value or 0) for value in found[:stop]]
        packed: list[list[bytes | None]] = []
        for stored in self._stored:
            entities = asked[stored.by]
            start, stop = stop, stop + len(entities.texts)
            values = list(found[start:stop])
            if entities.has_null:
                values.append(None)
            packed.append(values)
        return pointers, packed

    def _is_only_newer(
        self, asked: Mapping[str, Asked], pointers: Sequence[int], packed: Sequence[Sequence[bytes | None]]
    ) -> bool:
        """Whether an entity has been published, but not yet as far as these pointers go; or it was, and they moved."""
        return any(
            isinstance(stored.block, BatchBlock) and stored.block.is_only_newer(values, pointers[stored.pointer or 0])
            for stored, values in zip(self._stored, packed, strict=True)
        )

    def _unmoved(self, pointers: Sequence[int]) -> bool:
        found = fetch(self._client, [self._pointer_keys])
        self._last_pointers = [int(value or 0) for value in found]
        return self._last_pointers == pointers
