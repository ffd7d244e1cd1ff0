"""Decoding stream entries into the rows of the offline log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pandas as pd

from core.use_case import Field, UseCase
from features.columns import column_array
from features.definitions import feature_set
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
            parts.setdefault(f"events/{name}", []).append(_event_rows(data, fields.get(name, ()), position, known_at))
        else:
            parts.setdefault(f"batch/{name}", []).append(_batch_rows(data, name, use_cases, position, known_at))
    return {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}


def prediction_tables(entries: Sequence[Entry], use_cases: Mapping[str, UseCase]) -> dict[str, pd.DataFrame]:
    """Rows of the predictions tables."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for entry_id, entry in entries:
        meta = orjson.loads(entry[b"meta"])
        use_case = use_cases.get(meta["use_case"])
        if use_case is not None:
            rows = _prediction_rows(entry, meta, use_case).assign(position=np.int64(position_of(entry_id)))
            parts.setdefault(f"predictions/{use_case.name}", []).append(rows)
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


def _field_columns(fields: Sequence[Field], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {f.name: column_array(f, (row.get(f.name) for row in rows)) for f in fields}


def _event_rows(
    events: Sequence[Mapping[str, Any]], fields: Sequence[Field], position: int, known_at: int
) -> pd.DataFrame:
    frame = pd.DataFrame({"id": [event["id"] for event in events]} | _field_columns(fields, events))
    frame["at"] = stamp([event["at_us"] for event in events])
    frame["known_at"] = stamp([known_at] * len(events))
    frame["position"] = np.int64(position)
    frame["row"] = np.arange(len(events), dtype=np.int32)
    return frame


def _batch_rows(
    data: Mapping[str, Any], name: str, use_cases: Mapping[str, UseCase], position: int, known_at: int
) -> pd.DataFrame:
    use_case, _, view_name = name.partition("/")
    view = next(v for v in feature_set(use_cases[use_case]).batch_views if v.name == view_name.partition("@")[0])
    rows = np.array(list(data["rows"].values()), dtype=np.float64).reshape(-1, len(view.outputs))
    frame = pd.DataFrame(rows, columns=list(view.outputs))
    frame.insert(0, "entity", list(data["rows"]))
    frame["as_of"] = stamp([data["as_of_us"]] * len(frame))
    frame["known_at"] = stamp([known_at] * len(frame))
    frame["position"] = np.int64(position)
    return frame


def _prediction_rows(entry: Mapping[bytes, bytes], meta: Mapping[str, Any], use_case: UseCase) -> pd.DataFrame:
    instances = orjson.loads(entry[b"instances"])
    n = len(instances)
    matrix = np.frombuffer(entry[b"x"], dtype="<f4").reshape(n, -1)
    columns: dict[str, Any] = {
        "prediction_id": meta["ids"], "version": [meta["version"]] * n,
        "score": np.frombuffer(entry[b"scores"], dtype="<f4"),
        "watermark": np.full(n, meta["watermark"], dtype=np.int64),
        "degraded": [len(reasons) > 0 for reasons in meta["degraded"]],
    }  # fmt: skip
    columns |= _field_columns(use_case.request_fields, instances)
    if matrix.shape[1]:
        names = meta.get("columns") or use_case.features.columns
        columns |= {f"f__{name}": matrix[:, i] for i, name in enumerate(names)}
    frame = pd.DataFrame(columns)
    frame["at"] = stamp(meta["at_us"])
    frame["known_at"] = stamp([meta["now_us"]] * n)
    return frame
