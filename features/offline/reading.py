"""Reading the files of the offline log: only the days, columns and rows that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from core.clock import as_utc
from features.offline.files import LogFile, Record
from features.offline.schemas import STAMP
from features.streams import ANSWER

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


@dataclass(frozen=True)
class Scanned:
    """Rows of some files.

    Args:
        rows: in the order of the files.
        is_in_order: whether they are known to be in order of position.
    """

    rows: pa.Table
    is_in_order: bool


def scan(
    files: Sequence[LogFile],
    condition: ds.Expression | None = None,
    *,
    columns: Sequence[str] | None = None,
    encoded: Sequence[str] = (),
    keep: Keep | None = None,
) -> Scanned | None:
    """The rows of some files; None if there are no files.

    Args:
        files: which ones.
        condition: which rows.
        columns: which columns, where a file has them; None: all.
        encoded: columns whose text comes dictionary-encoded.
        keep: picks rows of each part of the files as it is read, so that no more than the kept ones are held.
    """
    if not files:
        return None
    paths = [str(file.path) for file in files]
    heads = [pq.read_metadata(path) for path in paths]
    schema = pa.unify_schemas([head.schema.to_arrow_schema() for head in heads], promote_options="permissive")
    schema = pa.schema([_encoded(f) if f.name in encoded else f for f in schema])
    is_in_order = _follow_each_other(heads)
    names = schema.names if columns is None else [name for name in dict.fromkeys(columns) if name in schema.names]
    if not is_in_order and "position" not in names:
        names.append("position")
    found = ds.dataset(paths, schema=schema, format="parquet")
    if keep is None:
        return Scanned(found.to_table(columns=names, filter=condition), is_in_order)
    parts = [_only(schema, names).empty_table()]
    for batch in found.to_batches(columns=names, filter=condition):
        part = pa.Table.from_batches([batch])
        parts.append(part.filter(pa.array(keep(part))))
    return Scanned(pa.concat_tables(parts), is_in_order)


def _follow_each_other(heads: Sequence[pq.FileMetaData]) -> bool:
    """Whether each file begins at or after the last position of the one before; within, rows are in order."""
    last = -1
    for head in heads:
        place = head.schema.to_arrow_schema().get_field_index("position")
        groups = [head.row_group(i).column(place).statistics for i in range(head.num_row_groups)]
        if any(group is None or not group.has_min_max for group in groups):
            return False
        if groups and min(group.min for group in groups) < last:
            return False
        last = max([last, *(group.max for group in groups)])
    return True


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


def of_roles(rows: pa.Table, roles: Sequence[str]) -> pa.Table:
    """The predictions of some roles; what was logged before roles were is what clients were answered."""
    if "role" not in rows.column_names:
        rows = rows.append_column("role", pa.repeat(pa.scalar(ANSWER), rows.num_rows))
    role = rows["role"].fill_null(ANSWER)
    rows = rows.set_column(rows.column_names.index("role"), "role", role)
    return rows.filter(pc.is_in(role, pa.array(roles, pa.string())))


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
