"""The files of the offline log: their names, which of them count, and writing them so that a crash leaves no half."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import DependencyDown

LOCK_TIMEOUT_S = 60.0
_STREAM = re.compile(r"^[a-z]+(-\d+)?$")
_LOCK_POLL_S = 0.01
_PAGE_BYTES = 1 << 17


@dataclass(frozen=True, order=True)
class LogFile:
    """Rows of one stream in one day folder.

    Args:
        since: position after which the rows begin.
        until: position of the last entry that was looked at.
        stream: which stream they came from.
        path: where the file is.
    """

    since: int
    until: int
    stream: str
    path: Path

    @classmethod
    def parse(cls, path: Path) -> LogFile:
        """From a path that ends in ``<stream>-<since>-<until>.parquet``."""
        stream, since, until = path.stem.rsplit("-", 2)
        return cls(int(since), int(until), stream, path)

    def holds(self, other: LogFile) -> bool:
        """Whether the other's rows are in this file too: it was merged into it."""
        return self.stream == other.stream and self.since <= other.since and other.until <= self.until


@dataclass(frozen=True)
class Record:
    """How far a stream is in the log.

    Args:
        position: of the last entry written.
        served: per source, when (microseconds since 1970) each key group was first served.
        writing: files of a write that may be unfinished, relative to the log's folder.
    """

    position: int = 0
    served: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    writing: tuple[str, ...] = ()


def file_name(stream: str, since: int, until: int) -> str:
    """Name of the file that holds a stream's rows of (since, until].

    Raises:
        ValueError: if the stream's name is not lower-case letters, maybe with a number behind a hyphen.
    """
    if not _STREAM.match(stream):
        raise ValueError(f"a stream is named like 'labels' or 'log-0', got {stream!r}")
    return f"{stream}-{since:020d}-{until:020d}.parquet"


def records_folder(root: Path) -> Path:
    """Where the records and locks of the streams are."""
    return root / "_flushed"


def read_record(root: Path, stream: str) -> Record:
    """A stream's record; an empty one if nothing was ever written."""
    path = records_folder(root) / f"{stream}.json"
    if not path.exists():
        return Record()
    found = orjson.loads(path.read_bytes())
    return Record(found["position"], found["served"], tuple(found["writing"]))


def read_records(root: Path) -> dict[str, Record]:
    """The records of all streams, by name."""
    return {path.stem: read_record(root, path.stem) for path in sorted(records_folder(root).glob("*.json"))}


def write_record(root: Path, stream: str, record: Record) -> None:
    """Replace a stream's record in one step."""
    content = {"position": record.position, "served": record.served, "writing": list(record.writing)}
    write_bytes(records_folder(root) / f"{stream}.json", orjson.dumps(content))


def count_files(folder: Path, records: Mapping[str, Record], low: str = "", high: str = "9999") -> list[LogFile]:
    """The files of a table that count, in order of position: written to the end and not merged into another.

    Args:
        folder: the table's folder.
        records: of all streams.
        low: first day, ``YYYY-MM-DD``.
        high: last day.
    """
    if not folder.is_dir():
        return []
    found: list[LogFile] = []
    for day in sorted(folder.iterdir()):
        if low <= day.name.removeprefix("day=") <= high:
            files = [LogFile.parse(path) for path in day.glob("*.parquet")]
            found += without_merged([f for f in files if f.until <= records.get(f.stream, Record()).position])
    return sorted(found)


def without_merged(files: list[LogFile]) -> list[LogFile]:
    """Files of one day folder without those whose rows another one holds."""
    kept: list[LogFile] = []
    for file in sorted(files, key=lambda f: (f.stream, f.since, -f.until)):
        if not (kept and kept[-1].holds(file)):
            kept.append(file)
    return kept


@contextmanager
def stream_lock(root: Path, stream: str) -> Iterator[None]:
    """Keep all other writers of a stream away; it ends with the process that holds it.

    Raises:
        DependencyDown: if another writer does not let go within `LOCK_TIMEOUT_S`.
    """
    with _locked(records_folder(root) / f"{stream}.lock", fcntl.LOCK_EX):
        yield


@contextmanager
def files_lock(root: Path, *, is_replacing: bool) -> Iterator[None]:
    """Shared by readers while they list files, exclusive while merged files replace others.

    Raises:
        DependencyDown: if the other side does not let go within `LOCK_TIMEOUT_S`.
    """
    if not root.is_dir():
        yield
        return
    with _locked(records_folder(root) / "files.lock", fcntl.LOCK_EX if is_replacing else fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise DependencyDown("the offline log", f"another process holds {path}") from error
                time.sleep(_LOCK_POLL_S)
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, and have it on the disk on return."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.write(content)
    _sync(fresh)
    _put_in_place(fresh, path)


def write_parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table], row_group_rows: int = 1 << 17) -> None:
    """Write a whole Parquet file or nothing, and have it on the disk on return.

    Text is dictionary-encoded, whole numbers and moments as differences, other numbers by bytes of equal weight; with
    LZ4 that is read three times as fast as Parquet's defaults with Zstandard, and is no larger.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    encodings = {f.name: encoding for f in schema if (encoding := _encoding(f.type)) is not None}
    texts = [f.name for f in schema if pa.types.is_string(f.type)]
    options = {
        "compression": "lz4", "use_dictionary": texts, "column_encoding": encodings, "data_page_size": _PAGE_BYTES,
    }  # fmt: skip
    with fresh.open("wb") as file, pq.ParquetWriter(file, schema, **options) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=row_group_rows)
    _sync(fresh)
    _put_in_place(fresh, path)


def _encoding(dtype: pa.DataType) -> str | None:
    if pa.types.is_integer(dtype) or pa.types.is_timestamp(dtype):
        return "DELTA_BINARY_PACKED"
    return "BYTE_STREAM_SPLIT" if pa.types.is_floating(dtype) else None


def _put_in_place(fresh: Path, path: Path) -> None:
    fresh.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
