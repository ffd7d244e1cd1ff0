"""Online features: packed values in Redis, read in one round trip."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import redis

from core.errors import DependencyDown
from core.use_case import UseCase
from features import tiles
from features.columns import compute_request_view, request_columns
from features.definitions import BatchView, WindowView, feature_set, view_digest
from features.streams import Keys

logger = logging.getLogger(__name__)
_BATCH_HEADER = np.dtype("<i8")


@dataclass(frozen=True)
class Assembled:
    """The features of n instances, as served.

    Args:
        matrix: shape (n, features), float32, columns in the order of the feature set.
        degraded: for each row, why some values are defaults: ``<view>: unknown entity`` or ``<view>: stale``.
        watermark: position of the log up to which the stored features were applied when they were read.
    """

    matrix: npt.NDArray[np.float32]
    degraded: list[list[str]]
    watermark: int


def pack_batch_row(as_of_us: int, values: Sequence[float]) -> bytes:
    """A batch view's stored value: int64 ``as_of`` in microseconds, then the outputs as float64."""
    return np.int64(as_of_us).tobytes() + np.asarray(values, dtype="<f8").tobytes()


def unpack_batch_row(packed: bytes) -> tuple[int, npt.NDArray[np.float64]]:
    """The inverse of `pack_batch_row`."""
    return int(np.frombuffer(packed, dtype="<i8", count=1)[0]), np.frombuffer(packed, dtype="<f8", offset=8)


def batch_values(
    view: BatchView, as_of_us: npt.NDArray[np.int64], rows: npt.NDArray[np.float64], at_us: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Honour the time-to-live: stored rows where they are alive, defaults elsewhere.

    Args:
        view: the batch view.
        as_of_us: what each stored row was computed as of, NaT-like ``NO_TILE`` where there is none, shape (n,).
        rows: stored outputs, shape (n, outputs).
        at_us: the readers' time, shape (n,).

    Returns:
        Values (n, outputs), which rows are unknown (n,), which are stale (n,).
    """
    unknown = as_of_us == tiles.NO_TILE
    stale = ~unknown & (at_us - as_of_us > int(view.ttl.total_seconds() * 1e6))
    values = np.where((unknown | stale)[:, None], np.asarray(view.defaults, dtype=np.float64), rows)
    return values, unknown, stale


class FeatureReader:
    """Assembles feature matrices for one use case.

    Args:
        use_case: whose features.
        client: Redis, with ``decode_responses=False``.
        namespace: prefix of the keys.
    """

    def __init__(self, use_case: UseCase, client: redis.Redis, namespace: str) -> None:
        self._use_case = use_case
        self._features = feature_set(use_case)
        self._client = client
        self._keys = Keys(namespace)
        self._stored: list[WindowView | BatchView] = [*self._features.window_views, *self._features.batch_views]
        self._digests = {view.name: view_digest(view) for view in self._stored}

    def assemble(self, instances: Sequence[Mapping[str, Any]], at_us: npt.NDArray[np.int64]) -> Assembled:
        """The features of `instances` at their times, with one round trip to Redis.

        Args:
            instances: n mappings with the entities and request fields.
            at_us: shape (n,), microseconds since 1970 UTC.

        Raises:
            DependencyDown: if Redis does not answer.
        """
        names: list[str] = [self._keys.cursor]
        places: dict[str, npt.NDArray[np.intp]] = {}
        for view in self._stored:
            entities = [instance[view.entity] for instance in instances]
            unique = {entity: i for i, entity in enumerate(dict.fromkeys(entities))}
            places[view.name] = len(names) + np.array([unique[entity] for entity in entities], dtype=np.intp)
            digest = self._digests[view.name]
            names += [self._keys.entity(self._use_case.name, view.name, digest, entity) for entity in unique]
        try:
            found = cast(list[bytes | None], self._client.mget(names))
        except redis.RedisError as error:
            raise DependencyDown("Redis", str(error)) from error
        degraded: list[list[str]] = [[] for _ in instances]
        columns = request_columns(self._use_case.request_fields, instances, at_us)
        blocks: list[npt.NDArray[np.float64]] = []
        for any_view in self._features.views:
            if isinstance(any_view, WindowView):
                blocks.append(_window_block(any_view, found, places[any_view.name], at_us, degraded))
            elif isinstance(any_view, BatchView):
                blocks.append(_batch_block(any_view, found, places[any_view.name], at_us, degraded))
            else:
                blocks.append(compute_request_view(any_view, columns))
        matrix = np.concatenate(blocks, axis=1).astype(np.float32)
        return Assembled(matrix, degraded, int(found[0]) if found[0] is not None else 0)


def _note(degraded: list[list[str]], where: npt.NDArray[np.bool_], reason: str) -> None:
    for i in np.flatnonzero(where):
        degraded[i].append(reason)


def _window_block(
    view: WindowView,
    found: Sequence[bytes | None],
    place: npt.NDArray[np.intp],
    at_us: npt.NDArray[np.int64],
    degraded: list[list[str]],
) -> npt.NDArray[np.float64]:
    first, last = int(place.min()), int(place.max()) + 1
    rings = tiles.empty_rings(view, last - first)
    missing = np.zeros(last - first, dtype=bool)
    for i, packed in enumerate(found[first:last]):
        if packed is None:
            missing[i] = True
        else:
            rings[i] = np.frombuffer(packed, dtype="<i8").reshape(rings.shape[1:])
    _note(degraded, missing[place - first], f"{view.name}: unknown entity")
    return tiles.fold(view, rings[place - first], at_us)


def _batch_block(
    view: BatchView,
    found: Sequence[bytes | None],
    place: npt.NDArray[np.intp],
    at_us: npt.NDArray[np.int64],
    degraded: list[list[str]],
) -> npt.NDArray[np.float64]:
    first, last = int(place.min()), int(place.max()) + 1
    as_of_us = np.full(last - first, tiles.NO_TILE, dtype=np.int64)
    rows = np.zeros((last - first, len(view.outputs)), dtype=np.float64)
    for i, packed in enumerate(found[first:last]):
        if packed is not None:
            as_of_us[i], rows[i] = unpack_batch_row(packed)
    local = place - first
    values, unknown, stale = batch_values(view, as_of_us[local], rows[local], at_us)
    _note(degraded, unknown, f"{view.name}: unknown entity")
    _note(degraded, stale, f"{view.name}: stale")
    return values
