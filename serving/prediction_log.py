"""The prediction log: one append per batch, to Redis, and to disk while Redis cannot take it."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import redis
from redis.cluster import RedisCluster

from core.errors import DependencyDown
from features.connection import REDIS_FAULTS
from features.online.multiget import Direct, pack

logger = logging.getLogger(__name__)
STREAM, SPOOL = "stream", "spool"
_TRY_AGAIN_S = 0.5
_LOOK_FOR_ORPHANS_S = 10.0
_AT_ONCE = 32
_HEAD = 8


class PredictionLog:
    """Appends records to the stream of predictions; none is lost once `append` has returned.

    While Redis does not answer, or its stream holds more than the stream worker has kept up with, records go to a
    file in the spool folder, and into the stream as soon as it takes them again. The file of a process that was
    killed is taken over by the next one that looks. A record may arrive twice; readers of the offline log count a
    prediction once.

    Args:
        client: Redis or a cluster.
        stream: the stream's name.
        folder: the spool folder.
        most_entries: entries the stream may hold before records go to disk.
    """

    def __init__(self, client: redis.Redis, stream: str, folder: Path, most_entries: int) -> None:
        self._client = client
        self._stream = stream.encode()
        self._folder = folder
        self._most_entries = most_entries
        self._direct = None if isinstance(client, RedisCluster) else Direct(client)
        self._lock = threading.Lock()
        self._spool: _Spool | None = None
        self._away_until_s = 0.0
        self._length = 0
        self._stop = threading.Event()
        self._drainer: threading.Thread | None = None

    def append(self, fields: Mapping[Any, Any]) -> str:
        """Append one record; returns where it is now: ``stream`` or ``spool``.

        Raises:
            DependencyDown: if neither can be written.
        """
        packed = pack([b"XADD", self._stream, b"*", *(_bytes(part) for pair in fields.items() for part in pair)])
        if self._takes():
            try:
                self._send(packed)
                return STREAM
            except REDIS_FAULTS as error:
                self._away(error)
        try:
            with self._lock:
                if self._spool is None:
                    self._spool = _Spool.create(self._folder)
                self._spool.write(packed)
        except OSError as error:
            raise DependencyDown("Redis", f"and the spool {self._folder} cannot be written ({error})") from error
        return SPOOL

    def start(self) -> None:
        """Begin to bring spooled records into the stream, one's own and those of processes that are gone."""
        self._drainer = threading.Thread(target=self._drain_on, name="prediction-spool", daemon=True)
        self._drainer.start()

    def close(self) -> None:
        """Stop bringing records; what is spooled stays for the next process."""
        self._stop.set()
        if self._drainer is not None:
            self._drainer.join()
        with self._lock:
            if self._spool is not None:
                self._spool.close()
                self._spool = None

    def drain(self) -> bool:
        """Bring spooled records into the stream; True if none are left that another process does not hold.

        Raises:
            redis.RedisError: if Redis does not take them; they stay.
        """
        self._length = self._client.xlen(self._stream)
        if self._length > self._most_entries // 2 and self._is_full():
            return False
        with self._lock:
            if self._spool is not None:
                self._bring(self._spool)
                self._spool.remove()
                self._spool = None
        done = True
        for path in sorted(self._folder.glob("*.spool")):
            orphan = _Spool.take_over(path)
            if orphan is None:
                done = False
                continue
            with orphan:
                self._bring(orphan)
                orphan.remove()
                logger.info("Brought the predictions in %s, left by a process that is gone, to the log.", path.name)
        return done

    def _takes(self) -> bool:
        return self._spool is None and time.monotonic() >= self._away_until_s and not self._is_full()

    def _is_full(self) -> bool:
        return self._length > self._most_entries

    def _away(self, error: Exception) -> None:
        if time.monotonic() >= self._away_until_s + _TRY_AGAIN_S:
            logger.warning("Redis does not take predictions (%s): they are kept in %s.", error, self._folder)
        self._away_until_s = time.monotonic() + _TRY_AGAIN_S

    def _send(self, packed: bytes, n: int = 1) -> None:
        """Send XADD commands, and see how long the stream is by now."""
        if self._direct is None:
            with self._client.pipeline(transaction=False) as pipe:
                for words in _commands(packed):
                    pipe.execute_command(*words)
                pipe.xlen(self._stream)
                replies = pipe.execute(raise_on_error=False)
        else:
            try:
                replies = self._direct.ask(packed + pack([b"XLEN", self._stream]), n + 1)
            except redis.ConnectionError:  # closed while it lay idle; a record that arrives twice counts once
                replies = self._direct.ask(packed + pack([b"XLEN", self._stream]), n + 1)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        self._length = int(replies[-1])

    def _bring(self, spool: _Spool) -> None:
        held: list[bytes] = []
        for record in spool.records():
            held.append(record)
            if len(held) == _AT_ONCE:
                self._send(b"".join(held), len(held))
                held = []
        if held:
            self._send(b"".join(held), len(held))

    def _drain_on(self) -> None:
        looked_s = float("-inf")
        while not self._stop.wait(_TRY_AGAIN_S):
            if self._spool is None and not self._is_full() and time.monotonic() - looked_s < _LOOK_FOR_ORPHANS_S:
                continue
            try:
                self.drain()
            except (*REDIS_FAULTS, OSError) as error:
                logger.debug("spooled predictions have to wait: %s", error)
            else:
                looked_s = time.monotonic()


class _Spool:
    """A file of records, held by one process: each has its length and CRC-32 before it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def create(cls, folder: Path) -> _Spool:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{os.getpid()}-{time.time_ns()}.spool"
        file = path.open("xb+", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        return cls(path, file)

    @classmethod
    def take_over(cls, path: Path) -> _Spool | None:
        """The file, if no process holds it and it is still there."""
        try:
            file = path.open("rb+", buffering=0)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return cls(path, file)
        except BlockingIOError:
            pass
        file.close()
        return None

    def write(self, record: bytes) -> None:
        head = len(record).to_bytes(4, "little") + zlib.crc32(record).to_bytes(4, "little")
        whole, written = head + record, 0
        while written < len(whole):
            written += os.write(self._file.fileno(), whole[written:])

    def records(self) -> Iterator[bytes]:
        """The records from the first on; the last one of a process that was killed while it wrote is left out."""
        size = os.fstat(self._file.fileno()).st_size
        place = 0
        while place + _HEAD <= size:
            head = os.pread(self._file.fileno(), _HEAD, place)
            length, crc = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
            record = os.pread(self._file.fileno(), length, place + _HEAD)
            if len(record) < length or zlib.crc32(record) != crc:
                logger.error("%s ends in a record that was not written whole: nobody was told it was.", self._path)
                return
            yield record
            place += _HEAD + length

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        self._file.close()


def _bytes(part: Any) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


def _commands(packed: bytes) -> Iterator[list[bytes]]:
    """The words of packed commands, for a cluster's client, which packs them again."""
    place = 0
    while place < len(packed):
        end = packed.index(b"\r\n", place)
        words = []
        n, place = int(packed[place + 1 : end]), end + 2
        for _ in range(n):
            end = packed.index(b"\r\n", place)
            size, place = int(packed[place + 1 : end]), end + 2
            words.append(packed[place : place + size])
            place += size + 2
        yield words
