"""The stream worker: applies the log to the online features and writes all streams to Parquet."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pandas as pd
import redis

from core.discovery import discover
from core.errors import DependencyDown
from core.logs import configure_logging
from core.settings import Settings, load_settings
from core.use_case import UseCase
from features.apply import Applied, Applier, stored_views
from features.offline import OfflineLog
from features.records import label_tables, log_tables, prediction_tables
from features.streams import Entry, Keys, entry_id_of, position_of

logger = logging.getLogger(__name__)
_Decoder = Callable[[Sequence[Entry], Mapping[str, UseCase]], dict[str, pd.DataFrame]]
_READ_AT_ONCE = 1000


class Flusher:
    """Writes streams to the offline log, exactly once, and trims what is written."""

    def __init__(self, client: redis.Redis, keys: Keys, log: OfflineLog, use_cases: Mapping[str, UseCase]) -> None:
        self._client = client
        self._keys = keys
        self._log = log
        self._use_cases = use_cases
        self._streams: dict[str, tuple[str, _Decoder]] = {
            "predictions": (keys.predictions, prediction_tables),
            "labels": (keys.labels, label_tables),
            "log": (keys.log, log_tables),
        }

    def flush(self, applied: int) -> int:
        """Write everything there is (of the log: up to the applied position) and return how many entries."""
        return sum(self._flush(name, applied if name == "log" else None) for name in self._streams)

    def _flush(self, name: str, limit: int | None) -> int:
        stream, decode = self._streams[name]
        start, written = self._log.flushed().get(name, 0), 0
        while entries := self._entries(stream, start, limit):
            until = position_of(entries[-1][0])
            self._log.write(name, until, decode(entries, self._use_cases))
            start, written = until, written + len(entries)
        if written:
            self._client.xtrim(stream, minid=entry_id_of(start + 1), approximate=False)
        self._client.hset(self._keys.flushed, name, start)
        return written

    def _entries(self, stream: str, start: int, limit: int | None) -> list[Entry]:
        if limit is not None and start >= limit:
            return []
        last = entry_id_of(limit) if limit is not None else "+"
        found = self._client.xrange(stream, min=f"({entry_id_of(start)}", max=last, count=_READ_AT_ONCE)
        return cast(list[Entry], found)


class StreamWorker:
    """Applies and flushes until told to stop.

    Args:
        settings: where everything is.
        client: Redis, with ``decode_responses=False``.
        use_cases: the use cases whose views are kept.
    """

    def __init__(self, settings: Settings, client: redis.Redis, use_cases: Mapping[str, UseCase]) -> None:
        self._client = client
        self._keys = Keys(settings.redis.namespace)
        self._stream = settings.stream
        self._applier = Applier(client, self._keys, stored_views(use_cases.values()), expire=settings.clock == "system")
        self._flusher = Flusher(client, self._keys, OfflineLog(settings.offline_dir), use_cases)
        self._flushed_at = 0.0

    def step(self, block_ms: int = 200) -> Applied | None:
        """Apply what has come, waiting for it at most `block_ms`; flush when it is time or was asked for."""
        cursor = self._applier.cursor()
        found: Any = self._client.xread(
            {self._keys.log: entry_id_of(cursor)}, count=self._stream.batch_entries, block=block_ms
        )
        applied = None
        if found:
            try:
                applied = self._applier.apply(found[0][1], cursor)
            except redis.WatchError:
                logger.info("another worker applied this batch")
                return None
            cursor = applied.position
        due = time.monotonic() - self._flushed_at > self._stream.flush_every_s
        if due or (applied is not None and applied.flush_requested):
            self._flusher.flush(cursor)
            self._flushed_at = time.monotonic()
        return applied

    def run(self, stop: threading.Event) -> None:
        """Step until stopped; Redis going away is waited out. Flushes once more at the end."""
        while not stop.is_set():
            try:
                self.step()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                logger.warning("Redis does not answer, trying again: %s", error)
                stop.wait(0.5)
        self._flusher.flush(self._applier.cursor())


def settle(client: redis.Redis, keys: Keys, *, timeout_s: float = 60.0) -> int:
    """Wait until all that was written to the streams so far is applied and in the offline log.

    Returns:
        The log position that was reached.

    Raises:
        DependencyDown: if the stream worker does not get there in time.
    """
    position = position_of(cast(bytes, client.xadd(keys.log, {"kind": "flush"})))
    deadline = time.monotonic() + timeout_s
    while int(cast(Any, client.hget(keys.flushed, "log")) or 0) < position:
        if time.monotonic() > deadline:
            raise DependencyDown(
                "the stream worker", f"position {position} not reached within {timeout_s:.0f} s. See: evergreen status"
            )
        time.sleep(0.005)
    return position


def main() -> None:
    """Run the stream worker until SIGTERM."""
    settings = load_settings()
    configure_logging(settings.log_level)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    use_cases = {name: loaded.use_case for name, loaded in discover(settings.models_dir).items()}
    client = redis.Redis.from_url(settings.redis_url, socket_timeout=10, health_check_interval=30)
    logger.info("applying the log for %s", ", ".join(use_cases))
    StreamWorker(settings, client, use_cases).run(stop)


if __name__ == "__main__":
    main()
