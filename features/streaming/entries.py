"""Decoding log entries: the events of one source from many entries, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from core.use_case import Field, UseCase
from features.columns import column_array
from features.streams import Entry, position_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_LARGEST_INT = 2**63 - 1


class LogEntry(NamedTuple):
    """One entry of a partition's log; fields that an entry of its kind lacks are empty.

    Args:
        position: its place in the log.
        kind: ``events`` or ``flush``.
        source: the event source.
        by: comma list of the key groups it serves.
        is_first: whether its events are first copies.
        known_at_us: when they became known.
        data: their columns, as JSON.
    """

    position: int
    kind: bytes
    source: str = ""
    by: str = ""
    is_first: bool = True
    known_at_us: int = 0
    data: bytes = b""


def log_entry(entry: Entry) -> LogEntry:
    """An entry as redis-py returns it."""
    entry_id, fields = entry
    return LogEntry(
        position=position_of(entry_id),
        kind=fields[b"kind"],
        source=fields.get(b"source", b"").decode(),
        by=fields.get(b"by", b"").decode(),
        is_first=fields.get(b"first", b"1") != b"0",
        known_at_us=int(fields.get(b"known_at", b"0")),
        data=fields.get(b"data", b""),
    )


@dataclass
class Events:
    """The events of one source from k entries, n in all, in the order of the log.

    Args:
        source: the event source.
        entries: where they came from, k.
        sizes: how many came from each, k.
        columns: ``id``, ``at_us`` and the fields as they were sent; None for null or absent. n each.
    """

    source: str
    entries: list[LogEntry] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns.get("id", ()))

    def add(self, entry: LogEntry, columns: Mapping[str, list[Any]]) -> None:
        """Append the columns of one more entry."""
        held, size = len(self), len(columns["id"])
        for name in columns:
            if name not in self.columns:
                self.columns[name] = [None] * held
        for name, values in self.columns.items():
            values += columns[name] if name in columns else [None] * size
        self.entries.append(entry)
        self.sizes.append(size)

    @cached_property
    def at_us(self) -> Ints:
        """When each happened."""
        return np.array(self.columns["at_us"], dtype=np.int64)

    @cached_property
    def known_at_us(self) -> Ints:
        """When each became known."""
        return self.of_entries([e.known_at_us for e in self.entries])

    @cached_property
    def position(self) -> Ints:
        """The position of each one's entry."""
        return self.of_entries([e.position for e in self.entries])

    @cached_property
    def row(self) -> Ints:
        """Each one's number within its entry."""
        starts = np.cumsum(self.sizes) - self.sizes
        return np.arange(len(self), dtype=np.int64) - np.repeat(starts, self.sizes)

    def of_entries(self, values: Sequence[int]) -> Ints:
        """One number per entry -> one per event."""
        return np.repeat(np.array(values, dtype=np.int64), self.sizes)

    def serves(self, group: str) -> Bools:
        """Whether each one is there for a key group."""
        return self.of_entries([group in e.by.split(",") for e in self.entries]).astype(bool)


def decode(entries: Iterable[LogEntry]) -> tuple[dict[str, Events], list[LogEntry]]:
    """The events of some entries by source, and those entries of events that cannot be read."""
    found: dict[str, Events] = {}
    broken: list[LogEntry] = []
    for entry in entries:
        if entry.kind != b"events":
            continue
        columns = _columns(entry.data)
        if columns is None:
            broken.append(entry)
        elif columns["id"]:
            found.setdefault(entry.source, Events(entry.source)).add(entry, columns)
    return found, broken


def declared_fields(use_cases: Iterable[UseCase]) -> dict[str, tuple[Field, ...]]:
    """The fields of every source that a use case declares."""
    found: dict[str, dict[str, Field]] = {}
    for use_case in use_cases:
        for source in use_case.sources:
            found.setdefault(source.name, {}).update({f.name: f for f in source.fields})
    return {source: tuple(fields.values()) for source, fields in found.items()}


def fitted(events: Events, fields: Sequence[Field]) -> tuple[dict[str, npt.NDArray[Any]], Bools]:
    """The declared fields as arrays, and which events fit the declaration.

    A field that is absent or null is null, whether or not it may be: what was acknowledged is kept. A value that is
    nothing of the declared kind makes its event unfit; it reads as null here.
    """
    fits = np.ones(len(events), dtype=bool)
    columns: dict[str, npt.NDArray[Any]] = {}
    for declared in fields:
        values = events.columns.get(declared.name)
        if values is None:
            values = [None] * len(events)
        try:
            columns[declared.name] = _column(declared, values)
        except (TypeError, ValueError, OverflowError):
            is_fit = [_fits(declared, value) for value in values]
            fits &= np.array(is_fit, dtype=bool)
            kept = [value if ok else None for value, ok in zip(values, is_fit, strict=True)]
            columns[declared.name] = _column(declared, kept)
    return columns, fits


def key_column(events: Events, column: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """An entity field for `window_values.entity_codes`, from its fitted column: exact, None for null."""
    if column.dtype == np.int64:
        return column
    if column.dtype == object:
        keys = column.copy()
        keys[column == ""] = None
        return keys
    whole: list[Any] = [None if np.isnan(given) else given for given in column.tolist()]
    raw = events.columns.get(name, whole)
    exact = [raw[i] if type(raw[i]) is int else None if value is None else int(value) for i, value in enumerate(whole)]
    return np.array(exact, dtype=object)


def _column(declared: Field, values: list[Any]) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] | None = None
    if declared.dtype == "float":
        found = np.array(values, dtype=np.float64)  # None becomes NaN
    elif declared.dtype == "int" and not declared.nullable and None not in values:
        found = np.array(values, dtype=np.int64)
    if found is not None:
        if found.ndim != 1:
            raise ValueError(f"lists are no values of {declared.name!r}")
        return found
    return column_array(replace(declared, nullable=True), values)


def _fits(declared: Field, value: Any) -> bool:
    try:
        _column(declared, [value])
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _columns(data: bytes) -> dict[str, list[Any]] | None:
    try:
        columns = orjson.loads(data)
        ids, at_us = columns["id"], columns["at_us"]
        is_sound = all(len(values) == len(ids) for values in columns.values())
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return None
    types = set(map(type, chain(ids, ("",)))), set(map(type, chain(at_us, (0,))))
    if not is_sound or types != ({str}, {int}) or not _fit_int64(at_us):
        return None
    return dict(columns)


def _fit_int64(values: list[int]) -> bool:
    return not values or (min(values) >= -_LARGEST_INT and max(values) <= _LARGEST_INT)
