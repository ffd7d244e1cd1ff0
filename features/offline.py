"""The offline log: everything that happened, in Parquet, by table and day.

::

    offline/events/<source>/day=2019-02-02/log-<partition>-<from>-<until>.parquet
    offline/copies/<source>/day=…/…           events again, for the partitions of their other key groups
    offline/late/<source>/day=…/…             events that came too late for every window
    offline/predictions/<use case>/day=…/predictions-<from>-<until>.parquet
    offline/labels/<use case>/day=…/labels-<from>-<until>.parquet
    offline/batch/<use case>/<view>@<digest>/<generation>.parquet
    offline/_flushed/<stream>.json            position up to which the stream is here

``day`` is the day the rows became known. A file's name is the range of stream positions it was written from. What
an unfinished write left behind does not count, and is removed before the next one. So each stream entry is here
exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from core.clock import as_utc
from features.compaction import compact_log
from features.log_files import (
    LogFile,
    Record,
    count_files,
    file_name,
    files_lock,
    read_record,
    read_records,
    stream_lock,
    write_parquet,
    write_record,
)
from features.schemas import STAMP, conform, require_fitting

Bound = datetime | None
T = TypeVar("T")
_NOT_SHOWN = ("row", "by")
_REREADS = 5


class OfflineLog:
    """Reads and writes the log under one folder.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def events(self, source: str, *, by: str | None = None, since: Bound = None, until: Bound = None) -> pd.DataFrame:
        """Events that became known in [since, until): ``id, at, known_at, position`` and the fields, by position.

        Args:
            source: the event source.
            by: None: each event once. A key group (``origin+carrier``): the events that the partitions of that
                group hold, with their positions there, preceded by those from before the group was first served.
            since: earliest ``known_at``.
            until: ``known_at`` before which.
        """
        table = self.event_table(source, by=by, since=since, until=until)
        return table.to_pandas() if table.num_columns else pd.DataFrame()

    def event_table(
        self,
        source: str,
        *,
        by: str | None = None,
        since: Bound = None,
        until: Bound = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """As `events`, as an Arrow table; with `columns` only those are read, and text is dictionary-encoded.

        A column that no file has is null in all rows. Without any events the table has no columns.
        """

        kinds = ("events",) if by is None else ("events", "copies")

        def read() -> list[pa.Table]:
            records, listed = self._files([f"{kind}/{source}" for kind in kinds], since, until)
            parts, first = [], _first_served(records, source, by)
            for kind, files in zip(kinds, listed, strict=True):
                needed = columns and [*columns, "position", "row", "known_at", "by"]
                found = _scan(files, _between("known_at", since, until), needed, ("by", *(columns or ())))
                parts += [_serving(part, by, first, kind == "events") for part in found]
            return parts

        parts = [part for part in _consistently(read) if part.num_rows]
        if not parts:
            return pa.table({})
        found = _in_order(pa.concat_tables(parts, promote_options="permissive"))
        if columns is None:
            return found.select([n for n in found.column_names if n not in _NOT_SHOWN])
        missing = [name for name in columns if name not in found.column_names]
        for name in missing:
            found = found.append_column(name, pa.nulls(found.num_rows))
        return found.select([*dict.fromkeys(["position", *columns])])

    def late(self, source: str, *, since: Bound = None, until: Bound = None) -> pd.DataFrame:
        """Events that came too late for every window view, as `events`."""
        frame = self._frame(f"late/{source}", since, until)
        if frame.empty:
            return frame
        return frame.sort_values(["position", "row"], kind="stable", ignore_index=True).drop(columns=list(_NOT_SHOWN))

    def batch(self, use_case: str, view: str, digest: str, *, outputs: Sequence[str] | None = None) -> pd.DataFrame:
        """Rows of a batch view: ``entity`` (str), ``at``, ``known_at``, ``generation`` and the outputs (float32).

        Sorted by generation, then as they were written. ``at`` and ``known_at`` are NaT where rows are timeless.
        """
        table = self.batch_table(use_case, view, digest, outputs=outputs)
        if not table.num_columns:
            return pd.DataFrame()
        frame: pd.DataFrame = table.set_column(0, "entity", table["entity"].cast(pa.string())).to_pandas()
        return frame

    def batch_table(self, use_case: str, view: str, digest: str, *, outputs: Sequence[str] | None = None) -> pa.Table:
        """As `batch`, as an Arrow table with dictionary-encoded entities; without any rows it has no columns."""
        folder = self._batch_folder(use_case, view, digest)
        parts, names = [], outputs and ["entity", "at", "known_at", *outputs]
        for generation in self.generations(use_case, view, digest):
            path = folder / f"{generation:020d}.parquet"
            part = pq.read_table(path, columns=names, read_dictionary=["entity"], partitioning=None)
            place = pa.array(np.full(part.num_rows, generation, dtype=np.int64))
            parts.append(part.add_column(3, "generation", place))
        return pa.concat_tables(parts).unify_dictionaries() if parts else pa.table({})

    def generations(self, use_case: str, view: str, digest: str) -> list[int]:
        """The generations there are of a batch view, oldest first."""
        return sorted(int(path.stem) for path in self._batch_folder(use_case, view, digest).glob("*.parquet"))

    def write_generation(self, use_case: str, view: str, digest: str, generation: int, frame: pd.DataFrame) -> None:
        """Write the rows of one generation, all or nothing; one that is there already stays as it is.

        Args:
            use_case: whose view.
            view: its name.
            digest: see `features.definitions.view_digest`.
            generation: its number, 0 or more.
            frame: ``entity`` (str), ``at``, ``known_at`` (NaT: timeless) and the outputs (float32).

        Raises:
            DataError: naming table and column, if a column is missing or of another type.
        """
        path = self._batch_folder(use_case, view, digest) / f"{generation:020d}.parquet"
        table = conform(f"batch/{use_case}/{view}@{digest}", frame)
        if not path.exists():
            write_parquet(path, table.schema, iter([table]))

    def predictions(self, use_case: str, *, since: Bound = None, until: Bound = None) -> pd.DataFrame:
        """Predictions with ``at`` in [since, until), sorted by ``at``.

        Columns: ``prediction_id, at, known_at, position, version, score, degraded``, the request's fields,
        ``k__<view>@<digest>`` (int64, what was known of the view; -1: nothing is recorded) and ``f__<feature>``
        (float32, as served). Imported requests have version "". A prediction whose first answer was lost on the
        way and that was scored again counts once, as last logged.
        """
        slack = timedelta(days=2)  # a request's time and the day it was logged may differ by the lateness
        frame = self._frame(
            f"predictions/{use_case}", since and since - slack, until and until + slack, _between("at", since, until)
        )
        if frame.empty:
            return frame
        frame = frame.sort_values("position", kind="stable").drop_duplicates("prediction_id", keep="last")
        return frame.sort_values(["at", "prediction_id"], ignore_index=True)

    def labels(self, use_case: str, *, since: Bound = None, known_by: Bound = None) -> pd.DataFrame:
        """Labels that became known in [since, known_by]: ``prediction_id, label, at, known_at, position``.

        The last one known wins where a prediction was labelled more than once.
        """
        until = known_by and known_by + timedelta(microseconds=1)
        frame = self._frame(f"labels/{use_case}", since, until)
        if frame.empty:
            return frame
        frame = frame.sort_values(["known_at", "position"], kind="stable")
        return frame.drop_duplicates("prediction_id", keep="last").reset_index(drop=True)

    def sources(self) -> list[str]:
        """Event sources there is anything of."""
        folder = self._root / "events"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def flushed(self) -> dict[str, int]:
        """Position up to which each stream is in the log."""
        return {stream: record.position for stream, record in read_records(self._root).items()}

    def write(self, stream: str, until: int, tables: Mapping[str, pd.DataFrame]) -> None:
        """Write what a stream holds between its recorded position and `until`, then record `until`.

        Rows at or before the recorded position are there already and are left out, so that doing it again, or a
        writer that was thought dead, changes nothing.

        Args:
            stream: ``log-<partition>``, ``predictions`` or ``labels``.
            until: position of the last entry contained.
            tables: table (e.g. ``events/taxi_trips``) -> rows, see `features.schemas.conform`.

        Raises:
            DataError: naming table and column, if rows are not as declared; nothing is written then.
            DependencyDown: if another writer of the stream does not finish.
        """
        checked = {name: conform(name, frame) for name, frame in tables.items() if len(frame)}
        with stream_lock(self._root, stream):
            record = read_record(self._root, stream)
            if until <= record.position:
                return
            fresh = {name: t.filter(pc.field("position") > record.position) for name, t in checked.items()}
            for name, table in fresh.items():
                self._require_fitting(name, table.schema)
            files = _by_day(fresh, file_name(stream, record.position, until))
            for left_behind in record.writing:
                (self._root / left_behind).unlink(missing_ok=True)
            write_record(self._root, stream, Record(record.position, record.served, tuple(files)))
            for path, rows in files.items():
                write_parquet(self._root / path, rows.schema, iter([rows]))
            write_record(self._root, stream, Record(until, _served(record.served, fresh)))

    def compact(self, stream: str | None, before: datetime) -> int:
        """Merge what a stream (None: each of them) wrote to each day folder into one file, for days before `before`.

        Safe to kill at any moment and to run beside readers and writers. Returns how many files went away.
        """
        return compact_log(self._root, stream, as_utc(before).strftime("%Y-%m-%d"))

    def _batch_folder(self, use_case: str, view: str, digest: str) -> Path:
        return self._root / "batch" / use_case / f"{view}@{digest}"

    def _require_fitting(self, table: str, schema: pa.Schema) -> None:
        for day in sorted((self._root / table).glob("day=*"), reverse=True):
            for path in sorted(day.glob("*.parquet"), reverse=True)[:1]:
                require_fitting(table, pq.read_schema(path), schema)
                return

    def _files(
        self, tables: Sequence[str], since: Bound, until: Bound
    ) -> tuple[dict[str, Record], list[list[LogFile]]]:
        """The records of all streams, and the files of each table that count by them."""
        low = as_utc(since).strftime("%Y-%m-%d") if since else ""
        high = as_utc(until).strftime("%Y-%m-%d") if until else "9999"
        with files_lock(self._root, is_replacing=False):
            records = read_records(self._root)
            return records, [count_files(self._root / table, records, low, high) for table in tables]

    def _frame(self, table: str, since: Bound, until: Bound, condition: ds.Expression | None = None) -> pd.DataFrame:
        keep = _between("known_at", since, until) if condition is None else condition
        parts = _consistently(lambda: _scan(self._files([table], since, until)[1][0], keep, None, ()))
        return _to_frame(parts[0]) if parts else pd.DataFrame()


def _consistently(read: Callable[[], T]) -> T:
    """Read anew when files were merged away between being listed and being opened."""
    for _ in range(_REREADS - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()


def _scan(
    files: Sequence[LogFile], condition: ds.Expression | None, columns: Sequence[str] | None, encoded: Sequence[str]
) -> list[pa.Table]:
    """The rows of some files that fulfil the condition, as one table if there are files; `encoded` text as codes."""
    if not files:
        return []
    paths = [str(file.path) for file in files]
    schema = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
    schema = pa.schema([_encoded(f) if f.name in encoded else f for f in schema])
    names = schema.names if columns is None else [name for name in dict.fromkeys(columns) if name in schema.names]
    return [ds.dataset(paths, schema=schema, format="parquet").to_table(columns=names, filter=condition)]


def _encoded(field: pa.Field) -> pa.Field:
    return field.with_type(pa.dictionary(pa.int32(), pa.string())) if pa.types.is_string(field.type) else field


def _between(column: str, low: Bound, high: Bound) -> ds.Expression | None:
    lower = ds.field(column) >= pa.scalar(as_utc(low), STAMP) if low is not None else None
    upper = ds.field(column) < pa.scalar(as_utc(high), STAMP) if high is not None else None
    return _all(lower, upper)


def _all(*conditions: ds.Expression | None) -> ds.Expression | None:
    found = None
    for condition in conditions:
        if condition is not None:
            found = condition if found is None else found & condition
    return found


def _first_served(records: Mapping[str, Record], source: str, by: str | None) -> int | None:
    """When (microseconds since 1970) a key group was first served; None: never."""
    served = [record.served.get(source, {}) for record in records.values()]
    return min((groups[by] for groups in served if by is not None and by in groups), default=None)


def _serving(rows: pa.Table, by: str | None, first_us: int | None, has_history: bool) -> pa.Table:
    """Rows whose copy serves a key group and, where wanted, those from before it was first served."""
    if by is None or (first_us is None and has_history):
        return rows
    groups = rows["by"].unify_dictionaries().combine_chunks()
    serves = np.array([by in text.split(",") for text in groups.dictionary.to_pylist()], dtype=bool)
    kept = serves[groups.indices.to_numpy()]
    if has_history:
        kept |= rows["known_at"].cast(pa.int64()).to_numpy() < first_us
    return rows if kept.all() else rows.filter(pa.array(kept))


def _in_order(table: pa.Table) -> pa.Table:
    position = table["position"].to_numpy()
    later, same = position[1:] > position[:-1], position[1:] == position[:-1]
    row = table["row"].to_numpy()
    if bool(np.all(later | (same & (row[1:] >= row[:-1])))):
        return table
    return table.take(pa.array(np.lexsort((row, position))))


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """As a pandas frame; in columns of what was known, null becomes -1, for as floats positions would be rounded."""
    for i, name in enumerate(table.column_names):
        if name.startswith("k__"):
            table = table.set_column(i, name, table[name].fill_null(-1))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _by_day(tables: Mapping[str, pa.Table], name: str) -> dict[str, pa.Table]:
    """Path of each file to write -> its rows."""
    files: dict[str, pa.Table] = {}
    for table, rows in tables.items():
        day = rows["known_at"].cast(pa.int64()).to_numpy() // 86_400_000_000
        for number in np.unique(day):
            folder = np.datetime64(int(number), "D")
            files[f"{table}/day={folder}/{name}"] = rows.filter(pa.array(day == number))
    return files


def _served(before: Mapping[str, Mapping[str, int]], tables: Mapping[str, pa.Table]) -> dict[str, dict[str, int]]:
    """When each key group of each source was first served."""
    found = {source: dict(groups) for source, groups in before.items()}
    for table, rows in tables.items():
        kind, _, source = table.partition("/")
        if kind not in ("events", "copies") or not rows.num_rows:
            continue
        firsts: Any = rows.select(["by", "known_at"]).group_by("by").aggregate([("known_at", "min")])
        for row in firsts.to_pylist():
            for group in filter(None, row["by"].split(",")):
                us = int(pd.Timestamp(row["known_at_min"]).value // 1000)
                groups = found.setdefault(source, {})
                groups[group] = min(us, groups.get(group, us))
    return found


def stamp(us: object) -> pd.Series:
    """Microseconds since 1970 as a column of UTC timestamps."""
    return pd.Series(pd.to_datetime(pd.Series(us, dtype="int64"), unit="us", utc=True).astype("datetime64[us, UTC]"))


def midnight(moment: datetime) -> datetime:
    """The beginning of a moment's UTC day."""
    return as_utc(moment).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
