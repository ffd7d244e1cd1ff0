"""Reading the files of the offline log: only the days, columns and rows that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from core.clock import as_utc
from features.log_files import LogFile, Record
from features.schemas import STAMP

Bound = datetime | None
Keep = Callable[[pa.Table], npt.NDArray[np.bool_]]
T = TypeVar("T")
_REREADS = 5


def consistently(read: Callable[[], T]) -> T:
    """Read anew when files were merged away between being listed and being opened."""
    for _ in range(_REREADS - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()


def between(column: str, low: Bound, high: Bound) -> ds.Expression | None:
    """The condition low <= column < high; None if neither is given."""
    parts = [ds.field(column) >= pa.scalar(as_utc(low), STAMP)] if low is not None else []
    parts += [ds.field(column) < pa.scalar(as_utc(high), STAMP)] if high is not None else []
    return parts[0] & parts[1] if len(parts) == 2 else parts[0] if parts else None


def scan(
    files: Sequence[LogFile],
    condition: ds.Expression | None = None,
    *,
    columns: Sequence[str] | None = None,
    encoded: Sequence[str] = (),
    keep: Keep | None = None,
) -> list[pa.Table]:
    """The rows of some files, in their order; a list of one table, or empty if there are no files.

    Args:
        files: which ones.
        condition: which rows.
        columns: which columns, where a file has them; None: all.
        encoded: columns whose text comes dictionary-encoded.
        keep: picks rows of each part of the files as it is read, so that no more than the kept ones are held.
    """
    if not files:
        return []
    paths = [str(file.path) for file in files]
    schema = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
    schema = pa.schema([_encoded(f) if f.name in encoded else f for f in schema])
    names = schema.names if columns is None else [name for name in dict.fromkeys(columns) if name in schema.names]
    found = ds.dataset(paths, schema=schema, format="parquet")
    if keep is None:
        return [found.to_table(columns=names, filter=condition)]
    parts = [_only(schema, names).empty_table()]
    for batch in found.to_batches(columns=names, filter=condition):
        part = pa.Table.from_batches([batch])
        parts.append(part.filter(pa.array(keep(part))))
    return [pa.concat_tables(parts)]


def count_rows(files: Sequence[LogFile]) -> int:
    """How many rows the files have."""
    return sum(pq.read_metadata(file.path).num_rows for file in files)


def first_served(records: Mapping[str, Record], source: str, by: str) -> int | None:
    """When (microseconds since 1970) a key group was first served; None: never."""
    served = [record.served.get(source, {}) for record in records.values()]
    return min((groups[by] for groups in served if by in groups), default=None)


def serving(rows: pa.Table, by: str, first_us: int | None, *, has_history: bool) -> pa.Table:
    """Rows whose copy serves a key group and, where wanted, those from before it was first served.

    Args:
        rows: with ``by`` (dictionary-encoded) and ``known_at``; neither is needed if all rows are history.
        by: the key group.
        first_us: see `first_served`.
        has_history: whether rows from before count.
    """
    if first_us is None:
        return rows if has_history else rows.slice(0, 0)
    groups = rows["by"].unify_dictionaries().combine_chunks()
    groups = groups.chunk(0) if isinstance(groups, pa.ChunkedArray) else groups
    kept = np.array([by in text.split(",") for text in groups.dictionary.to_pylist()], dtype=bool)[
        groups.indices.to_numpy(zero_copy_only=False)
    ]
    if has_history:
        kept |= rows["known_at"].cast(pa.int64()).to_numpy() < first_us
    return rows if kept.all() else rows.filter(pa.array(kept))


def in_order(table: pa.Table) -> pa.Table:
    """Rows by position; those of one position stay in their order, for each is in one file."""
    position = table["position"].to_numpy()
    if bool(np.all(position[1:] >= position[:-1])):
        return table
    return table.take(pa.array(np.argsort(position, kind="stable")))


def _encoded(field: pa.Field) -> pa.Field:
    return field.with_type(pa.dictionary(pa.int32(), pa.string())) if pa.types.is_string(field.type) else field


def _only(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])
