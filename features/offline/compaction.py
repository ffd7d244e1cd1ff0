"""Merging the small files of a day into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.offline.files import (
    LogFile,
    file_name,
    files_lock,
    read_record,
    stream_lock,
    without_merged,
    write_parquet,
)

_ROWS_AT_ONCE = 1 << 18


def compact_log(root: Path, stream: str | None, before: str) -> int:
    """Merge what each stream wrote to each day folder into one file.

    A crash loses nothing and doubles nothing: the merged file comes into place whole, and from then on those it
    holds do not count; they are removed afterwards, or by the next call.

    The stream's lock is held while a day of it is merged.

    Args:
        root: the log's folder.
        stream: which stream's files; None: all.
        before: days before this one, ``YYYY-MM-DD``.

    Returns:
        How many files went away.

    Raises:
        DependencyDown: if a writer of a stream does not finish.
    """
    removed = 0
    for day in sorted(root.glob("*/**/day=*")):
        if day.name.removeprefix("day=") >= before:
            continue
        found = {LogFile.parse(path).stream for path in day.glob("*.parquet")}
        for name in sorted(name for name in found if stream in (None, name)):
            with stream_lock(root, name):  # of two that merge at once, the second finds nothing left to do
                position = read_record(root, name).position
                files = [LogFile.parse(path) for path in day.glob(f"{name}-*.parquet")]
                removed += _merge(root, day, name, [f for f in files if f.stream == name and f.until <= position])
    return removed


def _merge(root: Path, day: Path, stream: str, files: Sequence[LogFile]) -> int:
    live = without_merged(list(files))
    if not live:
        return 0
    merged = day / file_name(stream, min(f.since for f in live), max(f.until for f in live))
    if len(live) > 1:
        paths = [file.path for file in live]
        schema = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
        write_parquet(merged, schema, _gathered(paths, schema))
    gone = [file.path for file in files if file.path != merged]
    with files_lock(root, is_replacing=True):
        for path in gone:
            path.unlink(missing_ok=True)
    return len(gone)


def _gathered(paths: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of all files in order, some hundred thousand at once."""
    waiting: list[pa.Table] = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                waiting.append(_widened(pa.Table.from_batches([batch]), schema))
                if sum(len(table) for table in waiting) >= _ROWS_AT_ONCE:
                    yield pa.concat_tables(waiting)
                    waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type) for f in schema
    ]
    return pa.table(columns, schema=schema)
