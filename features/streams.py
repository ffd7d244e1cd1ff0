"""The streams: what is written to Redis, and how it is packed.

Online features are split into partitions by the hash of the entity. Everything of a partition bears the same
Redis Cluster hash tag, so that one Redis and a cluster are used alike. ``{ns:p}:log`` is the total order of the
events that partition p is made of. An event is written once to every partition that one of its key groups falls
into. ``{ns}:predictions`` and ``{ns}:labels`` carry what was answered and what came back. All end in the offline log.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

SEQUENCE_BITS = 20
Entry = tuple[bytes, dict[bytes, bytes]]
Fields = dict[Any, Any]
ANSWER, SHADOW = "answer", "shadow"
"""Roles of a prediction: a client got its score, or another version's while it was only asked too."""
_BETWEEN = "\x1f"


@dataclass(frozen=True)
class Keys:
    """Names of the keys in Redis.

    Args:
        namespace: prefix of all of them.

    Example:
        >>> Keys("evergreen").log(3)
        '{evergreen:3}:log'
    """

    namespace: str

    def tag(self, partition: int) -> str:
        """Prefix of everything of one partition; braces make it a Redis Cluster hash tag."""
        return f"{{{self.namespace}:{partition}}}"

    def log(self, partition: int) -> str:
        """Stream of a partition's events."""
        return f"{self.tag(partition)}:log"

    def cursor(self, partition: int) -> str:
        """Position of the last entry applied to the partition's online features."""
        return f"{self.tag(partition)}:cursor"

    def counters(self, partition: int) -> str:
        """Hash of counts: events applied, duplicates, late."""
        return f"{self.tag(partition)}:counters"

    def lease(self, partition: int) -> str:
        """Which worker applies the partition's log."""
        return f"{self.tag(partition)}:lease"

    def dropped(self, partition: int) -> str:
        """Hash of entry id -> rows of it that were duplicates, until they are past the offline log."""
        return f"{self.tag(partition)}:dropped"

    def views(self, partition: int) -> str:
        """Set of the digests of views that are kept in the partition."""
        return f"{self.tag(partition)}:views"

    def seen(self, partition: int, source: str, day: int) -> str:
        """Hashes of the ids of one source's events whose time is on one day since 1970."""
        return f"{self.tag(partition)}:seen:{source}:{day}"

    def entity(self, partition: int, digest: str, entity: str) -> str:
        """The packed values of one entity in one view."""
        return f"{self.tag(partition)}:{digest}:{entity}"

    def published(self, digest: str) -> str:
        """Generation of a batch view that readers see."""
        return f"{{{self.namespace}}}:published:{digest}"

    def publication(self, digest: str) -> str:
        """Hash of a batch view's publishing: ``compacted`` (generation done with), ``newest_us`` (newest row)."""
        return f"{{{self.namespace}}}:publication:{digest}"

    def calls(self, api_key: str, window: str) -> str:
        """Counter of the calls made with an API key in one second or day."""
        return f"{{{self.namespace}:calls:{api_key}}}:{window}"

    @property
    def predictions(self) -> str:
        """Stream of answered predictions."""
        return f"{{{self.namespace}}}:predictions"

    @property
    def labels(self) -> str:
        """Stream of labels."""
        return f"{{{self.namespace}}}:labels"

    @property
    def partitions(self) -> str:
        """Hash whose field ``count`` says how many partitions there are; -n while a rebuild splits n anew."""
        return f"{{{self.namespace}}}:partitions"

    @property
    def workers(self) -> str:
        """Sorted set of the live stream workers, by when they count as gone."""
        return f"{{{self.namespace}}}:workers"

    @property
    def wishes(self) -> str:
        """Sorted set of the live stream workers that have less than their share, likewise."""
        return f"{{{self.namespace}}}:wishes"

    @property
    def routes(self) -> str:
        """Hash of use case -> version that answers."""
        return f"{self.namespace}:routes"

    @property
    def gateways(self) -> str:
        """Hash of gateway -> what it routes to."""
        return f"{self.namespace}:gateways"

    @property
    def wakes(self) -> str:
        """Stream that wakes the deployer: an entry says that something wanted may have changed."""
        return f"{{{self.namespace}}}:wakes"

    def delivery(self, digest: str) -> str:
        """Counter of how often a webhook came, by a digest of its id."""
        return f"{{{self.namespace}:deliveries}}:{digest}"

    @property
    def flushed(self) -> str:
        """Hash of stream -> position up to which it is in Parquet."""
        return f"{{{self.namespace}}}:flushed"


def entity_text(values: Sequence[Any]) -> str:
    r"""What an entity is called in keys: its one value, or several joined so that no two entities are called alike.

    Example:
        >>> entity_text([161]), entity_text(["JFK", "AA"]).split("\x1f")
        ('161', ['JFK', 'AA'])
    """
    if len(values) == 1:
        return str(values[0])
    return _BETWEEN.join(str(v).replace("\\", "\\\\").replace(_BETWEEN, "\\x1f") for v in values)


def partition_of(entity: str, partitions: int) -> int:
    """The partition an entity falls into."""
    return zlib.crc32(entity.encode()) % partitions if partitions > 1 else 0


def position_of(entry_id: bytes | str) -> int:
    """A stream entry's id as one integer that orders like the id.

    Example:
        >>> position_of("1700000000000-3") - position_of("1700000000000-0")
        3
    """
    ms, _, sequence = (entry_id.decode() if isinstance(entry_id, bytes) else entry_id).partition("-")
    return int(ms) << SEQUENCE_BITS | int(sequence)


def entry_id_of(position: int) -> str:
    """The stream entry id of a position."""
    return f"{position >> SEQUENCE_BITS}-{position & ((1 << SEQUENCE_BITS) - 1)}"


class Place(NamedTuple):
    """Where a copy of an event goes.

    Args:
        partition: the partition.
        by: comma list of the key groups that the copy serves.
        is_first: whether it is the event's first copy: the one that ends in the events table.
    """

    partition: int
    by: str
    is_first: bool


def fan_out(
    groups: Sequence[tuple[str, ...]], events: Sequence[Mapping[str, Any]], partitions: int
) -> dict[Place, list[Mapping[str, Any]]]:
    """Which events go to which partition, and for which key groups.

    Args:
        groups: the source's key groups, see `features.definitions.key_groups`.
        events: each with ``id``, ``at_us`` and the source's fields; None for null.
        partitions: how many there are.

    Returns:
        Place -> events. Every event has exactly one first copy; one that is in no group's reach (there is no
        group, or its entities are null) goes to the partition of its id and serves none.
    """
    names = ["+".join(group) for group in groups]
    found: dict[Place, list[Mapping[str, Any]]] = {}
    for event in events:
        places: dict[int, list[str]] = {}
        for group, name in zip(groups, names, strict=True):
            entity = [event[key] for key in group]
            if None not in entity:
                places.setdefault(partition_of(entity_text(entity), partitions), []).append(name)
        if not places:
            places[partition_of(event["id"], partitions)] = []
        for i, (partition, served) in enumerate(places.items()):
            found.setdefault(Place(partition, ",".join(served), i == 0), []).append(event)
    return found


def encode_events(source: str, place: Place, events: Sequence[Mapping[str, Any]], known_at_us: int) -> Fields:
    """Fields of a log entry that carries events.

    Args:
        source: the event source.
        place: where it goes.
        events: each with ``id``, ``at_us`` and the source's fields, all with the same keys; None for null.
        known_at_us: now, in microseconds since 1970 UTC.
    """
    columns = {name: [event[name] for event in events] for name in events[0]}
    return {
        "kind": "events", "source": source, "by": place.by, "first": int(place.is_first), "known_at": known_at_us,
        "data": orjson.dumps(columns),
    }  # fmt: skip


def encode_labels(use_case: str, labels: Sequence[Mapping[str, Any]], known_at_us: int) -> Fields:
    """Fields of a labels entry; each label has ``prediction_id``, ``label`` and ``at_us``."""
    data = {"use_case": use_case, "known_at_us": known_at_us, "labels": list(labels)}
    return {"data": orjson.dumps(data)}


def encode_predictions(  # noqa: PLR0913 - the fields of one record
    *,
    use_case: str,
    version: str,
    known: npt.NDArray[np.int64],
    known_views: Sequence[str],
    now_us: int,
    ids: Sequence[str] | Sequence[tuple[int, str]],
    at_us: npt.NDArray[np.int64],
    degraded: Sequence[Sequence[str]],
    matrix: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    instances: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    role: str = ANSWER,
    runs: Sequence[tuple[int, Mapping[str, Any]]] = (),
) -> Fields:
    """Fields of a predictions entry: one answered batch of n instances with its (n, d) matrix and n scores.

    `columns` names the matrix's columns, `known_views` (``<view>@<digest>``) those of `known` (n, v), what was known
    of each stored view; a version in service may have others than the current declaration. `role` is `ANSWER`, or
    `SHADOW` where a client was answered by another version, under the same ids. `ids` may be runs instead: how many,
    and what they begin with. `runs` says how many instances in order share which further fields.
    """
    meta: dict[str, Any] = {
        "use_case": use_case,
        "version": version,
        "role": role,
        "known_views": known_views,
        "now_us": now_us,
        "ids": ids,
        "at_us": at_us.tolist(),
        "degraded": degraded,
        "columns": columns,
    }
    if runs:
        meta["runs"] = runs
    return {
        "meta": orjson.dumps(meta),
        "known": np.ascontiguousarray(known, dtype="<i8").tobytes(),
        "x": np.ascontiguousarray(matrix, dtype="<f4").tobytes(),
        "scores": np.ascontiguousarray(scores, dtype="<f4").tobytes(),
        "instances": orjson.dumps(instances),
    }
