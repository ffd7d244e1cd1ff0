"""What the tables of the offline log hold, checked when rows are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from core.errors import DataError
from features.streams import ANSWER

STAMP = pa.timestamp("us", tz="UTC")
_EVENTS = {"id": pa.string(), "at": STAMP, "known_at": STAMP, "position": pa.int64(), "row": pa.int32(),
           "by": pa.string()}  # fmt: skip
_TABLES: Mapping[str, Mapping[str, pa.DataType]] = {
    "events": _EVENTS,
    "copies": _EVENTS,
    "late": _EVENTS,
    "predictions": {
        "prediction_id": pa.string(), "at": STAMP, "known_at": STAMP, "position": pa.int64(),
        "version": pa.string(), "score": pa.float32(), "degraded": pa.bool_(),
        "role": pa.string(),
    },
    "labels": {
        "prediction_id": pa.string(), "label": pa.int8(), "at": STAMP, "known_at": STAMP, "position": pa.int64(),
    },
    "batch": {"entity": pa.string(), "at": STAMP, "known_at": STAMP},
}  # fmt: skip
_OPTIONAL = {"row": 0, "by": "", "role": ANSWER}
_MAY_BE_NULL = {"batch": ("at", "known_at"), "predictions": ("score",)}


def conform(table: str, frame: pd.DataFrame) -> pa.Table:
    """Rows as they are stored: the columns every table of the kind has, with their types, then the fields.

    Args:
        table: e.g. ``events/taxi_trips``; what stands before the first slash is the kind.
        frame: the rows. Fields may be int, float, bool or str; of predictions ``k__…`` is int64 and ``f__…``
            float32, of batch tables all outputs are float32.

    Raises:
        DataError: naming table and column, if a column is missing, has another type or an unexpected null.
    """
    kind = table.split("/", 1)[0]
    if kind not in _TABLES:
        raise DataError(f"There is no kind of table {kind!r} in the offline log; use one of: {', '.join(_TABLES)}.")
    fixed = _TABLES[kind]
    columns: dict[str, pa.Array] = {}
    for name, dtype in fixed.items():
        if name not in frame.columns and name not in _OPTIONAL:
            raise DataError(f"Rows for {table!r} lack the column {name!r}. Add it, of type {dtype}.")
        given = frame[name] if name in frame.columns else pd.Series(_OPTIONAL[name], index=frame.index)
        columns[name] = _cast(table, name, given, dtype)
        if columns[name].null_count and name not in _MAY_BE_NULL.get(kind, ()):
            raise DataError(f"Column {name!r} of {table!r} has nulls. Give every row a value.")
    for name in frame.columns:
        if name not in fixed:
            columns[str(name)] = _field(kind, table, str(name), frame[name])
    return pa.table(columns)


def require_fitting(table: str, stored: pa.Schema, fresh: pa.Schema) -> None:
    """Check that rows can be read together with what is stored already.

    Raises:
        DataError: naming table, column and both types, if a column has changed its type.
    """
    for new in fresh:
        at = stored.get_field_index(new.name)
        if at < 0:
            continue
        old = stored.field(at).type
        is_number = [pa.types.is_integer(t) or pa.types.is_floating(t) for t in (old, new.type)]
        if old != new.type and not all(is_number) and not pa.types.is_null(old) and not pa.types.is_null(new.type):
            raise DataError(
                f"Column {new.name!r} of {table!r} is {old} in the offline log and {new.type} in new rows. "
                "Give the field another name, or move the table's old files away."
            )


def _field(kind: str, table: str, name: str, values: pd.Series) -> pa.Array:
    if kind == "batch" or name.startswith("f__"):
        return _cast(table, name, values, pa.float32())
    if name.startswith("k__"):
        return _cast(table, name, values, pa.int64())
    found = _cast(table, name, values, None)
    dtype = found.type
    if pa.types.is_dictionary(dtype) or pa.types.is_large_string(dtype):
        return found.cast(pa.string())
    if pa.types.is_integer(dtype):
        return _cast(table, name, values, pa.int64())
    if pa.types.is_floating(dtype):
        return _cast(table, name, values, pa.float64())
    if pa.types.is_string(dtype) or pa.types.is_boolean(dtype) or pa.types.is_null(dtype):
        return found
    raise DataError(f"Column {name!r} of {table!r} is {dtype}. Use int, float, bool or str.")


def _cast(table: str, name: str, values: pd.Series, dtype: pa.DataType | None) -> pa.Array:
    is_narrowing = dtype is not None and pa.types.is_float32(dtype)
    try:
        # NaN in a float column is a value, so it must not become null; narrowing floats is meant
        keeps_nan = values.dtype.kind == "f"
        found: Any = pa.array(values.to_numpy() if keeps_nan else values, from_pandas=not keeps_nan)
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        if dtype is None or found.type == dtype:
            return found
        if pa.types.is_timestamp(dtype) and not pa.types.is_timestamp(found.type):
            raise pa.ArrowInvalid(f"{found.type} is no moment")
        return found.cast(dtype, safe=not is_narrowing)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        wanted = dtype if dtype is not None else "int, float, bool or str"
        raise DataError(
            f"Column {name!r} of {table!r} is {values.dtype} and cannot be stored as {wanted} ({error}). "
            "Check the declared type of the field and the values."
        ) from error
