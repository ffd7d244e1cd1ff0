"""Decoding stream entries into the rows of the offline log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pandas as pd

from core.use_case import Field, UseCase
from features.columns import column_array
from features.offline import stamp
from features.streams import Entry, position_of


def log_tables(entries: Sequence[Entry], use_cases: Mapping[str, UseCase]) -> dict[str, pd.DataFrame]:
    """Rows of the events and batch tables."""
    fields = {s.name: s.fields for use_case in use_cases.values() for s in use_case.sources}
    parts: dict[str, list[pd.DataFrame]] = {}
    for entry_id, entry in entries:
        position, kind = position_of(entry_id), entry[b"kind"]
        if kind == b"flush":
            continue
        name, known_at = entry[b"name"].decode(), int(entry[b"known_at"])
        data = orjson.loads(entry[b"data"])
        if kind == b"events":
            parts.setdefault(f"events/{name}", []).append(_event_rows(data, fields.get(name), position, known_at))
        else:
            parts.setdefault(f"batch/{name}", []).append(_batch_rows(data, position, known_at))
    return {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}


def prediction_tables(entries: Sequence[Entry], use_cases: Mapping[str, UseCase]) -> dict[str, pd.DataFrame]:
    """Rows of the predictions tables."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for entry_id, entry in entries:
        meta = orjson.loads(entry[b"meta"])
        rows = _prediction_rows(entry, meta, use_cases.get(meta["use_case"]))
        rows["position"] = np.int64(position_of(entry_id))
        parts.setdefault(f"predictions/{meta['use_case']}", []).append(rows)
    return {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}


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


def _field_columns(fields: Sequence[Field] | None, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields as columns; what was acknowledged is kept, also where today's declaration is another.

    A field that is required today and absent in a row becomes null there; of a source or use case that is no
    longer declared (None), the values are kept as they came.
    """
    if fields is None:
        names = dict.fromkeys(name for row in rows for name in row if name not in ("id", "at_us", "at"))
        return {name: [row.get(name) for row in rows] for name in names}
    columns = {}
    for field in fields:
        values = [row.get(field.name) for row in rows]
        fitting = field if None not in values else replace(field, nullable=True)
        columns[field.name] = column_array(fitting, values)
    return columns


def _event_rows(
    events: Sequence[Mapping[str, Any]], fields: Sequence[Field] | None, position: int, known_at: int
) -> pd.DataFrame:
    frame = pd.DataFrame({"id": [event["id"] for event in events]} | _field_columns(fields, events))
    frame["at"] = stamp([event["at_us"] for event in events])
    frame["known_at"] = stamp([known_at] * len(events))
    frame["position"] = np.int64(position)
    frame["row"] = np.arange(len(events), dtype=np.int32)
    return frame


def _batch_rows(data: Mapping[str, Any], position: int, known_at: int) -> pd.DataFrame:
    outputs = data["outputs"]
    rows = np.array(list(data["rows"].values()), dtype=np.float64).reshape(-1, len(outputs))
    frame = pd.DataFrame(rows, columns=outputs)
    frame.insert(0, "entity", list(data["rows"]))
    frame["as_of"] = stamp([data["as_of_us"]] * len(frame))
    frame["known_at"] = stamp([known_at] * len(frame))
    frame["position"] = np.int64(position)
    return frame


def _prediction_rows(entry: Mapping[bytes, bytes], meta: Mapping[str, Any], use_case: UseCase | None) -> pd.DataFrame:
    instances = orjson.loads(entry[b"instances"])
    n = len(instances)
    matrix = np.frombuffer(entry[b"x"], dtype="<f4").reshape(n, -1)
    columns: dict[str, Any] = {
        "prediction_id": meta["ids"], "version": [meta["version"]] * n,
        "score": np.frombuffer(entry[b"scores"], dtype="<f4"),
        "watermark": np.full(n, meta["watermark"], dtype=np.int64),
        "degraded": [len(reasons) > 0 for reasons in meta["degraded"]],
    }  # fmt: skip
    columns |= _field_columns(use_case.request_fields if use_case else None, instances)
    if matrix.shape[1]:
        names = meta["columns"]
        columns |= {f"f__{name}": matrix[:, i] for i, name in enumerate(names)}
    frame = pd.DataFrame(columns)
    frame["at"] = stamp(meta["at_us"])
    frame["known_at"] = stamp([meta["now_us"]] * n)
    return frame
