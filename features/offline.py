"""The offline log: everything that happened, in Parquet, by table and day.

::

    offline/events/<source>/day=2019-02-02/<from>-<to>.parquet
    offline/batch/<use case>/<view>@<digest>/day=…/…
    offline/predictions/<use case>/day=…/…
    offline/labels/<use case>/day=…/…
    offline/_flushed.json        position up to which each stream is here

``day`` is the day the rows became known. A file's name is the range of stream positions it was written
from; a file that begins at or after the recorded position is the rest of an unfinished write, and is
removed before the write is done again. So each stream entry is here exactly once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from core.clock import as_utc

_STAMP = pa.timestamp("us", tz="UTC")
_DAY = timedelta(days=1)


class OfflineLog:
    """Reads and writes the log under one folder.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def events(self, source: str, *, since: datetime | None = None, until: datetime | None = None) -> pd.DataFrame:
        """Events that became known in [since, until): ``id, at, known_at, position`` and the source's fields.

        Sorted by position. An event id that occurs twice on one event day counts once, with its first position.
        """
        frame = self._read(Path("events") / source, since, until)
        if frame.empty:
            return frame
        frame = frame.sort_values(["position", "row"], kind="stable")
        day = frame["at"].dt.floor("D")
        first = ~pd.DataFrame({"id": frame["id"], "day": day}).duplicated()
        return frame.loc[first].drop(columns="row").reset_index(drop=True)

    def batch(self, use_case: str, view: str, digest: str) -> pd.DataFrame:
        """Publications of a batch view: ``entity`` (str), ``as_of``, ``known_at``, ``position`` and the outputs."""
        frame = self._read(Path("batch") / use_case / f"{view}@{digest}", None, None)
        return frame if frame.empty else frame.sort_values("position", kind="stable").reset_index(drop=True)

    def predictions(
        self, use_case: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> pd.DataFrame:
        """Predictions with ``at`` in [since, until), sorted by ``at``.

        Columns: ``prediction_id, at, known_at, position, version, score, watermark, degraded``, the request's
        fields, and ``f__<feature>`` (float32, as served). Imported requests have version "" and watermark -1. A
        prediction whose first answer was lost on the way and that was scored again counts once, as last logged.
        """
        slack = timedelta(days=2)  # a request's time and the day it was logged may differ by the lateness
        frame = self._read(
            Path("predictions") / use_case, since and since - slack, until and until + slack, by_at=(since, until)
        )
        if frame.empty:
            return frame
        frame = frame.sort_values("position", kind="stable").drop_duplicates("prediction_id", keep="last")
        return frame.sort_values(["at", "prediction_id"]).reset_index(drop=True)

    def labels(self, use_case: str, *, since: datetime | None = None, known_by: datetime | None = None) -> pd.DataFrame:
        """Labels that became known in [since, known_by]: ``prediction_id, label, at, known_at``.

        The last one known wins where a prediction was labelled more than once.
        """
        until = known_by and known_by + timedelta(microseconds=1)
        frame = self._read(Path("labels") / use_case, since, until)
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
        path = self._root / "_flushed.json"
        return dict(orjson.loads(path.read_bytes())) if path.exists() else {}

    def write(self, stream: str, until: int, tables: Mapping[str, pd.DataFrame]) -> None:
        """Write what a stream holds between its recorded position and `until`, then record `until`.

        Args:
            stream: log, predictions or labels.
            until: position of the last entry contained.
            tables: table path (e.g. ``events/taxi_trips``) -> rows with a ``known_at`` column.
        """
        flushed = self.flushed()
        start = flushed.get(stream, 0)
        for table, frame in tables.items():
            for day, rows in frame.groupby(frame["known_at"].dt.strftime("%Y-%m-%d"), sort=True):
                folder = self._root / table / f"day={day}"
                folder.mkdir(parents=True, exist_ok=True)
                _remove_unfinished(folder, start)
                _write_atomically(rows, folder / f"{start:020d}-{until:020d}.parquet")
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / "_flushed.json"
        fresh = path.with_suffix(".tmp")
        with fresh.open("wb") as file:
            file.write(orjson.dumps(flushed | {stream: until}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def _read(
        self,
        table: Path,
        since: datetime | None,
        until: datetime | None,
        *,
        by_at: tuple[datetime | None, datetime | None] | None = None,
    ) -> pd.DataFrame:
        files = _files(self._root / table, since, until, self.flushed(), table.parts[0])
        if not files:
            return pd.DataFrame()
        schema = pa.unify_schemas([pq.read_schema(file) for file in files], promote_options="permissive")
        column, (low, high) = ("at", by_at) if by_at else ("known_at", (since, until))
        condition = None
        for bound, is_low in ((low, True), (high, False)):
            if bound is not None:
                value = pa.scalar(as_utc(bound), _STAMP)
                part = ds.field(column) >= value if is_low else ds.field(column) < value
                condition = part if condition is None else condition & part
        loaded = ds.dataset([str(file) for file in files], schema=schema, format="parquet").to_table(filter=condition)
        frame: pd.DataFrame = loaded.to_pandas()
        return frame


def _files(
    folder: Path, since: datetime | None, until: datetime | None, flushed: Mapping[str, int], kind: str
) -> list[Path]:
    if not folder.is_dir():
        return []
    stream = kind if kind in ("predictions", "labels") else "log"
    complete = flushed.get(stream, 0)
    low = as_utc(since).strftime("%Y-%m-%d") if since else ""
    high = as_utc(until).strftime("%Y-%m-%d") if until else "9999"
    return [
        file
        for day in sorted(folder.iterdir())
        if low <= day.name.removeprefix("day=") <= high
        for file in sorted(day.glob("*.parquet"))
        if int(file.stem.split("-")[0]) < complete
    ]


def _remove_unfinished(folder: Path, start: int) -> None:
    for file in folder.glob("*.parquet"):
        if int(file.stem.split("-")[0]) >= start:
            file.unlink()


def _write_atomically(rows: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    fresh = path.with_suffix(".tmp")
    pq.write_table(table, fresh, compression="zstd")
    fresh.replace(path)


def stamp(us: object) -> pd.Series:
    """Microseconds since 1970 as a column of UTC timestamps."""
    return pd.Series(pd.to_datetime(pd.Series(us, dtype="int64"), unit="us", utc=True).astype("datetime64[us, UTC]"))


def midnight(moment: datetime) -> datetime:
    """The beginning of a moment's UTC day."""
    return as_utc(moment).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
