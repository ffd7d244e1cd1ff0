"""The streams: what is written to Redis, and how it is packed.

``{ns}:log`` is the total order of everything that online features are made of: events, and batch views as
they are published. ``{ns}:predictions`` and ``{ns}:labels`` carry what was answered and what came back.
All three end in the offline log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

SEQUENCE_BITS = 20
Entry = tuple[bytes, dict[bytes, bytes]]
Fields = dict[Any, Any]


@dataclass(frozen=True)
class Keys:
    """Names of the keys in Redis.

    Args:
        namespace: prefix of all of them.

    Example:
        >>> Keys("evergreen").log
        'evergreen:log'
    """

    namespace: str

    @property
    def log(self) -> str:
        """Stream of events and batch publications."""
        return f"{self.namespace}:log"

    @property
    def cursor(self) -> str:
        """Position of the last log entry applied to the online features."""
        return f"{self.namespace}:cursor"

    @property
    def counters(self) -> str:
        """Hash of counts: events applied, duplicates, late."""
        return f"{self.namespace}:counters"

    @property
    def predictions(self) -> str:
        """Stream of answered predictions."""
        return f"{self.namespace}:predictions"

    @property
    def labels(self) -> str:
        """Stream of labels."""
        return f"{self.namespace}:labels"

    @property
    def routes(self) -> str:
        """Hash of use case -> version that answers."""
        return f"{self.namespace}:routes"

    @property
    def gateways(self) -> str:
        """Hash of gateway -> what it routes to."""
        return f"{self.namespace}:gateways"

    @property
    def flushed(self) -> str:
        """Hash of stream -> position up to which it is in Parquet."""
        return f"{self.namespace}:flushed"

    def seen(self, source: str, day: int) -> str:
        """Set of the event ids of one source whose event time is on one day since 1970."""
        return f"{self.namespace}:seen:{source}:{day}"

    def entity(self, use_case: str, view: str, digest: str, entity: object) -> str:
        """The packed values of one entity in one view."""
        return f"{self.namespace}:v:{use_case}:{view}@{digest}:{entity}"


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


def encode_events(source: str, events: Sequence[Mapping[str, Any]], known_at_us: int) -> Fields:
    """Fields of a log entry that carries events.

    Args:
        source: the event source.
        events: each with ``id``, ``at_us`` and the source's fields; None for null.
        known_at_us: now, in microseconds since 1970 UTC.
    """
    return {"kind": "events", "name": source, "known_at": known_at_us, "data": orjson.dumps(list(events))}


def encode_batch(
    name: str, outputs: Sequence[str], rows: Mapping[str, Sequence[float]], *, as_of_us: int, known_at_us: int
) -> Fields:
    """Fields of a log entry that publishes a batch view, ``<use case>/<view>@<digest>``: all its rows at once.

    Args:
        name: the view.
        outputs: names of its columns.
        rows: entity -> values.
        as_of_us: what moment they were computed as of.
        known_at_us: now.
    """
    packed = {str(entity): list(values) for entity, values in rows.items()}
    data = {"as_of_us": as_of_us, "outputs": list(outputs), "rows": packed}
    return {"kind": "batch", "name": name, "known_at": known_at_us, "data": orjson.dumps(data)}


def encode_labels(use_case: str, labels: Sequence[Mapping[str, Any]], known_at_us: int) -> Fields:
    """Fields of a labels entry; each label has ``prediction_id``, ``label`` and ``at_us``."""
    data = {"use_case": use_case, "known_at_us": known_at_us, "labels": list(labels)}
    return {"data": orjson.dumps(data)}


def encode_predictions(  # noqa: PLR0913 - the fields of one record
    *,
    use_case: str,
    version: str,
    watermark: int,
    now_us: int,
    ids: Sequence[str],
    at_us: npt.NDArray[np.int64],
    degraded: Sequence[Sequence[str]],
    matrix: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    instances: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
) -> Fields:
    """Fields of a predictions entry: one answered batch of n instances with its (n, d) matrix and n scores.

    `columns` names the matrix's columns; a version in service may have others than the current declaration.
    """
    meta = {
        "use_case": use_case,
        "version": version,
        "watermark": watermark,
        "now_us": now_us,
        "ids": list(ids),
        "at_us": at_us.tolist(),
        "degraded": [list(reasons) for reasons in degraded],
        "columns": list(columns),
    }
    return {
        "meta": orjson.dumps(meta),
        "x": np.ascontiguousarray(matrix, dtype="<f4").tobytes(),
        "scores": np.ascontiguousarray(scores, dtype="<f4").tobytes(),
        "instances": orjson.dumps(list(instances)),
    }
