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

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from core.clock import as_utc
from core.errors import DataError
from features.offline.compaction import compact_log
from features.offline.files import (
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
from features.offline.generations import Generations
from features.offline.reading import (
    Bound,
    Keep,
    Scanned,
    between,
    consistently,
    count_rows,
    first_served,
    in_order,
    of_roles,
    scan,
    serving,
)
from features.offline.schemas import conform, require_fitting
from features.streams import ANSWER

_NOT_SHOWN = ("row", "by")
_TO_FIND_PREDICTIONS = ("prediction_id", "at", "position", "role")
_DAY_US = 86_400_000_000


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
        found = self._events(source, [by], None, (since, until), between("known_at", since, until), None)[by]
        frame: pd.DataFrame = found.drop_columns(_NOT_SHOWN).to_pandas() if found.num_rows else pd.DataFrame()
        return frame

    def event_table(
        self, source: str, *, by: str | None = None, columns: Sequence[str], since: Bound = None, until: Bound = None
    ) -> pa.Table:
        """As `events`, as an Arrow table of some columns, with text dictionary-encoded; no columns without events."""
        wanted = [*dict.fromkeys(["position", *columns])]
        read = [*dict.fromkeys([*wanted, *(["known_at"] if by else [])])]
        found = self._events(source, [by], read, (since, until), between("known_at", since, until), None)[by]
        return _with_columns(found, wanted)

    def event_tables(
        self,
        source: str,
        by: Sequence[str],
        columns: Sequence[str],
        *,
        since: Bound = None,
        until: Bound = None,
        keep: Keep | None = None,
    ) -> dict[str, pa.Table]:
        """Events for each of some key groups, as Arrow tables with text dictionary-encoded, by position.

        Args:
            source: the event source.
            by: the key groups, see `events`.
            columns: what to read, with ``at`` and ``known_at``. One that no file has is null.
            since: all events known at or after it come, earlier ones of that day may.
            until: all events known before it come, later ones of that day may.
            keep: picks rows while they are read, so that no more are held.

        Returns:
            By group; where groups have the same rows they share one table. Without events a table has no columns.
        """
        wanted = [*dict.fromkeys(["at", "known_at", *columns])]
        found = self._events(source, list(by), wanted, (since, until), None, keep)
        shown = {id(table): _with_columns(table, wanted) for table in found.values()}
        return {group: shown[id(table)] for group, table in found.items() if group is not None}

    def count_events(self, source: str, *, since: Bound = None, until: Bound = None) -> int:
        """About how many events of a source became known in [since, until): those of whole days."""
        return consistently(lambda: count_rows(self._files([f"events/{source}"], since, until)[1][0]))

    def event_days(self, source: str, *, since: Bound = None, until: Bound = None) -> list[datetime]:
        """The days, from the first to the last of two moments, on which an event of a source may have become known."""
        files = self._files([f"events/{source}"], since, until)[1][0]
        days = {file.path.parent.name.removeprefix("day=") for file in files}
        return [as_utc(datetime.fromisoformat(day)) for day in sorted(days)]

    def late(self, source: str, *, since: Bound = None, until: Bound = None) -> pd.DataFrame:
        """Events that came too late for every window view, as `events`."""
        frame = self._frame(f"late/{source}", since, until)
        if frame.empty:
            return frame
        return frame.sort_values(["position", "row"], kind="stable", ignore_index=True).drop(columns=list(_NOT_SHOWN))

    def batch(self, use_case: str, view: str, digest: str) -> pd.DataFrame:
        """Rows of a batch view: ``entity`` (str), ``at``, ``known_at``, ``generation`` and the outputs (float32).

        Sorted by generation, then as they were written. ``at`` and ``known_at`` are NaT where rows are timeless.
        """
        return self.published(use_case, view, digest).frame()

    def published(self, use_case: str, view: str, digest: str) -> Generations:
        """The generations of a batch view."""
        return Generations(self._root / "batch" / use_case / f"{view}@{digest}", f"batch/{use_case}/{view}@{digest}")

    def generations(self, use_case: str, view: str, digest: str) -> list[int]:
        """The numbers of a batch view's generations, oldest first."""
        return self.published(use_case, view, digest).numbers()

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
        self.published(use_case, view, digest).write(generation, frame)

    def predictions(
        self,
        use_case: str,
        *,
        since: Bound = None,
        until: Bound = None,
        roles: Sequence[str] = (ANSWER,),
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Predictions with ``at`` in [since, until), sorted by ``at``.

        Columns: ``prediction_id, at, known_at, position, version, score, degraded, role``, the request's fields,
        ``k__<view>@<digest>`` (int64, what was known of the view; -1: nothing is recorded) and ``f__<feature>``
        (float32, as served). Imported requests have version "". A prediction whose first answer was lost on the
        way and that was scored again counts once, as last logged.

        Args:
            use_case: whose.
            since: earliest ``at``.
            until: ``at`` before which.
            roles: what clients were answered (``answer``), or what a shadow scored under the same ids (``shadow``).
            columns: which ones are wanted, besides those that are needed to find the rows; None: all.
        """
        # a request is logged little before its time, but as long after it as the lateness of the views lets it come;
        # of the days after, only the files' ends are read where they hold no such time
        days = since and since - timedelta(days=2), None
        wanted = columns and [*columns, *_TO_FIND_PREDICTIONS]
        found = self._rows(f"predictions/{use_case}", *days, between("at", since, until), wanted)
        frame = pd.DataFrame() if found is None else _to_frame(of_roles(found, roles))
        if frame.empty:
            return frame
        frame = frame.sort_values("position", kind="stable").drop_duplicates(["prediction_id", "role"], keep="last")
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
            tables: table (e.g. ``events/taxi_trips``) -> rows, see `features.offline.schemas.conform`.

        Raises:
            DataError: naming table and column, if rows are not as declared; nothing is written then.
            DependencyDown: if another writer of the stream does not finish.
        """
        checked = {name: _checked(name, frame) for name, frame in tables.items() if len(frame)}
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

        Raises:
            DependencyDown: if a writer of a stream does not finish.
        """
        return compact_log(self._root, stream, as_utc(before).strftime("%Y-%m-%d"))

    def _events(
        self,
        source: str,
        by: Sequence[str | None],
        columns: Sequence[str] | None,
        days: tuple[Bound, Bound],
        condition: ds.Expression | None,
        keep: Keep | None,
    ) -> dict[str | None, pa.Table]:
        """Per group (None: each event once) its rows, with the columns there are."""

        def read() -> dict[str | None, pa.Table]:
            records, (originals, copies) = self._files([f"events/{source}", f"copies/{source}"], *days)
            firsts = {group: first_served(records, source, group) for group in by if group is not None}
            is_served = any(first is not None for first in firsts.values())
            # copies are put between the others by position
            further = ["by", "known_at", *(["position"] if copies else [])] if is_served else []
            names = columns and [*columns, *further]
            encoded = ("by", *(columns or ()))
            once = scan(originals, condition, columns=names, encoded=encoded, keep=keep)
            again = scan(copies, condition, columns=names, encoded=encoded, keep=keep) if is_served else None
            return {group: _of_group(once, again, group, firsts[group] if group else None) for group in by}

        return consistently(read)

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

    def _frame(self, table: str, since: Bound, until: Bound) -> pd.DataFrame:
        found = self._rows(table, since, until, between("known_at", since, until))
        return pd.DataFrame() if found is None else _to_frame(found)

    def _rows(
        self,
        table: str,
        since: Bound,
        until: Bound,
        condition: ds.Expression | None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table | None:
        found = consistently(lambda: scan(self._files([table], since, until)[1][0], condition, columns=columns))
        return None if found is None else found.rows


def _checked(table: str, frame: pd.DataFrame) -> pa.Table:
    try:
        return conform(table, frame)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise DataError(f"Rows for {table!r} cannot be stored ({error}). Check the fields and their values.") from error


def _of_group(once: Scanned | None, again: Scanned | None, group: str | None, first_us: int | None) -> pa.Table:
    """The rows for one key group, by position."""
    parts = [] if once is None else [once.rows]
    if group is not None:
        parts = [serving(rows, group, first_us, has_history=True) for rows in parts]
        parts += [] if again is None else [serving(again.rows, group, first_us, has_history=False)]
    parts = [part for part in parts if part.num_rows]
    if not parts:
        return pa.table({})
    if len(parts) == 1 and all(found is None or found.is_in_order for found in (once, again)):
        return parts[0]
    return in_order(pa.concat_tables(parts, promote_options="permissive"))


def _with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    if not table.num_rows:
        return pa.table({})
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows))
    return table.select(list(names))


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """As a pandas frame; in columns of what was known, null becomes -1, for as floats positions would be rounded."""
    for i, name in enumerate(table.column_names):
        if name.startswith("k__"):
            table = table.set_column(i, name, table[name].fill_null(-1))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _by_day(tables: Mapping[str, pa.Table], name: str) -> dict[str, pa.Table]:
    """Path of each file to write -> its rows, in order of position."""
    files: dict[str, pa.Table] = {}
    for table, rows in tables.items():
        rows = in_order(rows)
        day = rows["known_at"].cast(pa.int64()).to_numpy() // _DAY_US
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
        known_us = rows["known_at"].cast(pa.int64())
        firsts = pa.table({"by": rows["by"], "us": known_us}).group_by("by").aggregate([("us", "min")])
        for row in firsts.to_pylist():
            for group in filter(None, row["by"].split(",")):
                groups = found.setdefault(source, {})
                groups[group] = min(row["us_min"], groups.get(group, row["us_min"]))
    return found


def stamp(us: object) -> pd.Series:
    """Microseconds since 1970 as a column of UTC timestamps."""
    return pd.Series(pd.to_datetime(pd.Series(us, dtype="int64"), unit="us", utc=True).astype("datetime64[us, UTC]"))


def midnight(moment: datetime) -> datetime:
    """The beginning of a moment's UTC day."""
    return as_utc(moment).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
