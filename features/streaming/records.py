"""Decoding stream entries into the rows of the offline log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from core.prediction_ids import ids_of
from core.use_case import Field, UseCase
from features.columns import column_array
from features.offline.log import stamp
from features.online.instances import Instances
from features.streaming.declared import Declared
from features.streaming.entries import Events, LogEntry, decode, fitted
from features.streams import ANSWER, Entry, entry_id_of, position_of

Bools = npt.NDArray[np.bool_]


def log_tables(
    entries: Sequence[LogEntry], declared: Declared, dropped: Mapping[str, bytes]
) -> dict[str, pd.DataFrame]:
    """Rows of the events, copies and late tables.

    Args:
        entries: of one partition's log.
        declared: what is declared.
        dropped: entry id -> rows of it that were duplicates, packed as uint32.

    Returns:
        Table -> rows. Events that fit no declaration stand in ``late/<source>@unfit`` as JSON, in ``data``. Of late
        and unfit events the first copies are kept alone, as no view counts them.
    """
    found, broken = decode(entries)
    tables: dict[str, pd.DataFrame] = {}
    for source, events in found.items():
        is_new = _is_new(events, dropped)
        columns, fits = fitted(events, declared.fields[source]) if source in declared.fields else _as_sent(events)
        late_after = declared.late_after_us(source)
        is_late = events.at_us < events.known_at_us - (2**62 if late_after is None else late_after)
        is_first_copy = events.of_entries([entry.is_first for entry in events.entries]).astype(bool)
        rows = _event_rows(events, columns)
        kinds = {
            "events": ~is_late & is_first_copy, "copies": ~is_late & ~is_first_copy, "late": is_late & is_first_copy,
        }  # fmt: skip
        for kind, picked in kinds.items():
            if (picked := picked & is_new & fits).any():
                tables[f"{kind}/{source}"] = rows[picked]
        if (picked := is_new & ~fits & is_first_copy).any():
            tables[f"late/{source}@unfit"] = _unfit_rows(events, picked)
    for entry in (entry for entry in broken if entry.is_first):
        table = f"late/{entry.source}@unfit"
        tables[table] = pd.concat([*([tables[table]] if table in tables else []), _broken_row(entry)])
    return tables


def prediction_tables(entries: Sequence[Entry], use_cases: Mapping[str, UseCase]) -> dict[str, pd.DataFrame]:
    """Rows of the predictions tables."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for entry_id, entry in entries:
        meta = orjson.loads(entry[b"meta"])
        rows = _prediction_rows(entry, meta, use_cases.get(meta["use_case"]))
        rows["position"] = np.int64(position_of(entry_id))
        parts.setdefault(f"predictions/{meta['use_case']}", []).append(rows)
    return {table: _concat(frames) for table, frames in parts.items()}


def label_tables(entries: Sequence[Entry], use_cases: Mapping[str, UseCase]) -> dict[str, pd.DataFrame]:
    """Rows of the labels tables."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for entry_id, entry in entries:
        data = orjson.loads(entry[b"data"])
        common = {"known_at": data["known_at_us"], "position": position_of(entry_id)}
        rows.setdefault(f"labels/{data['use_case']}", []).extend(label | common for label in data["labels"])
    tables: dict[str, pd.DataFrame] = {}
    for table, labels in rows.items():
        frame = pd.DataFrame(labels)
        frame["at"] = stamp(frame.pop("at_us"))
        frame["known_at"] = stamp(frame["known_at"])
        frame["label"] = frame["label"].astype("int8")
        tables[table] = frame
    return tables


def _is_new(events: Events, dropped: Mapping[str, bytes]) -> Bools:
    is_new = np.ones(len(events), dtype=bool)
    starts = np.cumsum(events.sizes) - events.sizes
    for entry, start in zip(events.entries, starts.tolist(), strict=True):
        again = dropped.get(entry_id_of(entry.position))
        if again is not None:
            is_new[start + np.frombuffer(again, dtype="<u4").astype(np.int64)] = False
    return is_new


def _event_rows(events: Events, columns: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame:
    return pd.DataFrame(_own_columns(events) | dict(columns))


def _own_columns(events: Events) -> dict[str, Any]:
    return {
        "id": events.columns["id"],
        "at": stamp(events.at_us),
        "known_at": stamp(events.known_at_us),
        "position": events.position,
        "row": events.row.astype(np.int32),
        "by": np.repeat(np.array([entry.by for entry in events.entries], dtype=object), events.sizes),
    }


def _unfit_rows(events: Events, picked: Bools) -> pd.DataFrame:
    names = [name for name in events.columns if name not in ("id", "at_us")]
    rows = np.flatnonzero(picked).tolist()
    sent = [orjson.dumps({name: events.columns[name][i] for name in names}).decode() for i in rows]
    return pd.DataFrame(_own_columns(events))[picked].assign(data=sent)


def _broken_row(entry: LogEntry) -> pd.DataFrame:
    known_at = stamp([entry.known_at_us])
    row = {"id": "", "at": known_at, "known_at": known_at, "position": np.int64(entry.position), "row": np.int32(0)}
    return pd.DataFrame(row | {"by": entry.by, "data": [entry.data.decode(errors="replace")]})


def _as_sent(events: Events) -> tuple[dict[str, npt.NDArray[Any]], Bools]:
    """The fields of a source that nobody declares any more, as they came; where kinds are mixed, as JSON."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, values in events.columns.items():
        if name in ("id", "at_us"):
            continue
        kinds = {type(value) for value in values if value is not None}
        if kinds <= {int, float}:
            columns[name] = np.array(values, dtype=np.float64 if None in values or float in kinds else np.int64)
        elif kinds == {str}:
            columns[name] = np.array(["" if value is None else value for value in values], dtype=object)
        else:
            columns[name] = np.array([orjson.dumps(value).decode() for value in values], dtype=object)
    return columns, np.ones(len(events), dtype=bool)


def _request_columns(fields: Sequence[Field] | None, instances: Instances) -> dict[str, Any]:
    """The fields as columns; what was acknowledged is kept, also where today's declaration is another.

    A field that is required today and absent in a row becomes null there; of a use case that is no longer declared
    (None), the values are kept as they came.
    """
    if fields is None:
        names = dict.fromkeys(name for row in instances.plain() for name in row if name != "at")
        return {name: instances.column(name) for name in names}
    columns = {}
    for field in fields:
        values = instances.column(field.name)
        fitting = field if None not in values else replace(field, nullable=True)
        columns[field.name] = column_array(fitting, values)
    return columns


def _prediction_rows(entry: Mapping[bytes, bytes], meta: Mapping[str, Any], use_case: UseCase | None) -> pd.DataFrame:
    instances = Instances(orjson.loads(entry[b"instances"]), meta.get("runs", ()))
    n = len(instances)
    ids = meta["ids"]
    if n and type(ids[0]) is list:
        ids = [identity for size, base in ids for identity in ids_of(base, size)]
    matrix = np.frombuffer(entry[b"x"], dtype="<f4").reshape(n, -1)
    columns: dict[str, Any] = {
        "prediction_id": ids, "version": [meta["version"]] * n, "role": [meta.get("role", ANSWER)] * n,
        "score": np.frombuffer(entry[b"scores"], dtype="<f4"),
        "degraded": [len(reasons) > 0 for reasons in meta["degraded"]],
    }  # fmt: skip
    columns |= _request_columns(use_case.request_fields if use_case else None, instances)
    columns |= _block("k", meta.get("known_views", ()), np.frombuffer(entry.get(b"known", b""), dtype="<i8"), n)
    columns |= _block("f", meta["columns"] if matrix.size else (), matrix.ravel(), n)
    frame = pd.DataFrame(columns)
    frame["at"] = stamp(meta["at_us"])
    frame["known_at"] = stamp([meta["now_us"]] * n)
    return frame


def _block(prefix: str, names: Sequence[str], flat: npt.NDArray[Any], n: int) -> dict[str, Any]:
    """Columns of an (n, names) block."""
    rows = flat.reshape(n, len(names)) if len(names) else flat[:0].reshape(n, 0)
    return {f"{prefix}__{name}": rows[:, i] for i, name in enumerate(names)}


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame of all; int64 columns that some lack (``k__…``) stay exact: -1 says that nothing is recorded."""
    known = dict.fromkeys(name for frame in frames for name in frame.columns if name.startswith("k__"))
    for frame in frames:
        for name in known:
            if name not in frame.columns:
                frame[name] = np.int64(-1)
    return pd.concat(frames, ignore_index=True)
