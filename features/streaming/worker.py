"""The stream worker: applies the log to the online features and writes all streams to Parquet."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

import pyarrow as pa
import redis

from core.discovery import discover
from core.errors import DataError, DependencyDown, SettingsError
from core.logs import configure_logging
from core.settings import Settings, load_settings
from core.use_case import UseCase
from features.connection import REDIS_FAULTS, connect
from features.offline.log import OfflineLog
from features.streaming.apply import Applied
from features.streaming.declared import Declared
from features.streaming.flush import Flusher, log_stream
from features.streaming.holding import Holding, Surroundings
from features.streaming.lag import lag
from features.streaming.leases import Leases
from features.streaming.metrics import StreamMetrics
from features.streaming.partition_store import LeaseLost, PartitionStore
from features.streaming.settling import settle, wait_applied
from features.streams import Keys

__all__ = ["StreamWorker", "lag", "settle", "wait_applied"]

logger = logging.getLogger(__name__)
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.02
_PAUSE_WITHOUT_REDIS_S = 0.5
_LONGEST_STEP_S = 600.0
_CACHE_BYTES = 256_000_000
_REDIS_IS_AWAY = (
    redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterError, redis.exceptions.RedisClusterException, redis.exceptions.TryAgainError,
)  # fmt: skip
_PASSING = re.compile(r"\b(BUSY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b|non local key")
"""Answers that redis-py has no class for, or none when a script gives them; the last: a slot is being moved."""
_UNUSABLE = (
    DataError, DependencyDown, ValueError, TypeError, KeyError, OSError, pa.ArrowException, redis.ResponseError,
)  # fmt: skip
"""What keeps one stream from being applied or written for now, and not the others: rows that do not fit, the disk."""


class StreamWorker:
    """Applies and flushes until told to stop.

    Args:
        settings: where everything is.
        client: Redis or a cluster, with ``decode_responses=False``.
        use_cases: the use cases whose views are kept.

    Raises:
        SettingsError: if Redis is split into another number of partitions than the settings say.
    """

    def __init__(self, settings: Settings, client: redis.Redis, use_cases: Mapping[str, UseCase]) -> None:
        self._client, self._stream = client, settings.stream
        self._keys = Keys(settings.redis.namespace)
        log, declared = OfflineLog(settings.offline_dir), Declared.of(use_cases.values())
        self._flusher = Flusher(client, self._keys, log, use_cases, declared)
        self._around = Surroundings(
            client=client, keys=self._keys, log=log, declared=declared, flusher=self._flusher,
            partitions=self._stream.partitions, expire=settings.clock == "system",
            batch_entries=self._stream.batch_entries, cache_bytes=_CACHE_BYTES // self._stream.partitions,
            threads=ThreadPoolExecutor(1, "commits"),
        )  # fmt: skip
        token = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._leases = Leases(client, self._keys, token, self._stream.partitions, self._stream.lease_s, self._hold)
        self.metrics = StreamMetrics()
        self._flushed_at = time.monotonic()
        self._stepped_at = time.monotonic()
        self._unflushed = 0
        self._require_partitions()

    @property
    def held(self) -> list[Holding]:
        """The partitions it applies."""
        return self._leases.held

    def step(self) -> Applied | None:
        """Apply what has come to each partition, at most one batch each; flush when it is time or was asked for.

        Returns:
            What was applied; None if there was nothing.
        """
        self._stepped_at = time.monotonic()
        if self._leases.tick():
            self._require_partitions()
            self.metrics.behind(lag(self._client, self._keys, self._stream.partitions), len(self.held))
        total, wanted = Applied(), []
        for holding in self.held:
            started = time.monotonic()
            try:
                applied = holding.step()
            except LeaseLost as lost:
                logger.warning("%s", lost)
                self._leases.drop(holding)
                continue
            except _UNUSABLE as error:
                self._set_aside(holding, error)
                continue
            if applied is not None:
                total += applied
                self.metrics.applied(applied, time.monotonic() - started)
                wanted += [holding] if applied.flush_requested else []
        self._unflushed += total.entries
        is_due = time.monotonic() - self._flushed_at > self._stream.flush_every_s
        if is_due or self._unflushed > self._stream.max_entries // 4:  # writers are refused when a stream is full
            self._flush(self.held)
            self._flushed_at, self._unflushed = time.monotonic(), 0
        elif wanted:
            self._flush(wanted)
        return total if total.entries else None

    def run(self, stop: threading.Event) -> None:
        """Step until stopped; Redis going away is waited out. Flushes once more at the end."""
        renewing = threading.Thread(target=self._renew, args=(stop,), name="leases", daemon=True)
        renewing.start()
        pause_s = _SHORTEST_PAUSE_S
        while not stop.is_set():
            try:
                if self.step() is not None:
                    pause_s = _SHORTEST_PAUSE_S
                    continue
            except REDIS_FAULTS as error:
                if not _is_away(error):
                    raise
                logger.warning("Redis does not answer, trying again: %s", error)
                self._leases.drop_all()
                pause_s = _PAUSE_WITHOUT_REDIS_S
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        try:
            self._flush(self.held)
            self._leases.leave()
        except REDIS_FAULTS as error:
            if not _is_away(error):
                raise
            logger.warning(
                "Redis does not answer, so another worker goes on from here once the leases are over: %s", error
            )

    def _hold(self, store: PartitionStore) -> Holding:
        """Begin with a partition; where that cannot be for now, it is free for others and tried again."""
        try:
            return Holding(self._around, store)
        except _UNUSABLE as error:
            if _is_away(error):
                raise
            store.release()
            raise LeaseLost(f"{type(error).__name__}: {error}") from error

    def _set_aside(self, holding: Holding, error: Exception) -> None:
        """Let go of a partition that cannot be applied for now; it is taken anew at the next tick of the leases."""
        if _is_away(error):
            raise error
        logger.error(
            "partition %d cannot be applied, trying again: %s: %s",
            holding.store.partition, type(error).__name__, error,
        )  # fmt: skip
        with suppress(*_UNUSABLE):  # of a batch under way, whose end nobody waits for now
            holding.wait()
        self._leases.let_go(holding)

    def _flush(self, holdings: list[Holding]) -> None:
        """Write what is applied of some partitions; whoever has the first one writes predictions and labels, too."""
        rows = sum(self._flush_one(holding) for holding in holdings)
        if any(holding.store.partition == 0 for holding in holdings):
            rows += _written("predictions", self._flusher.flush_predictions)
            rows += _written("labels", self._flusher.flush_labels)
        self.metrics.flushed(rows)

    def _flush_one(self, holding: Holding) -> int:
        try:
            holding.wait()
            return _written(log_stream(holding.store.partition), holding.flush)
        except LeaseLost as lost:
            logger.warning("%s", lost)
            self._leases.drop(holding)
        except _UNUSABLE as error:
            self._set_aside(holding, error)
        return 0

    def _renew(self, stop: threading.Event) -> None:
        """Keep the leases while a step takes long, but not for ever."""
        while not stop.wait(self._stream.lease_s / 3):
            if time.monotonic() - self._stepped_at < _LONGEST_STEP_S:
                try:
                    self._leases.renew()
                except REDIS_FAULTS as error:
                    logger.debug("could not renew: %s", error)

    def _require_partitions(self) -> None:
        wanted = self._stream.partitions
        self._client.hsetnx(self._keys.partitions, "count", cast(Any, wanted))
        found = int(cast(Any, self._client.hget(self._keys.partitions, "count")))
        if found < 0:
            raise SettingsError(
                f"Redis was being split into another number of partitions than {-found} when that was interrupted. "
                "Finish it with: evergreen features rebuild"
            )
        if found != wanted:
            raise SettingsError(
                f"EVERGREEN_STREAM__PARTITIONS is {wanted}, but Redis is split into {found} partitions. "
                "Set it back, or split Redis anew with: evergreen features rebuild"
            )


def _written(stream: str, write: Callable[[], int]) -> int:
    """How many rows were written; where they cannot be, 0: the stream keeps them, and others are written."""
    try:
        return write()
    except _UNUSABLE as error:
        if _is_away(error):
            raise
        logger.error(
            "the stream %s is kept, for it cannot be written to the offline log: %s: %s",
            stream, type(error).__name__, error,
        )  # fmt: skip
        return 0


def _is_away(error: Exception) -> bool:
    """Whether Redis cannot answer for now, so that waiting helps."""
    if isinstance(error, _REDIS_IS_AWAY):
        return True
    return isinstance(error, redis.ResponseError) and _PASSING.search(str(error)) is not None


def main() -> None:
    """Run the stream worker until SIGTERM."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    use_cases = {name: loaded.use_case for name, loaded in discover(settings.models_dir).items()}
    client = connect(settings, socket_timeout=10, health_check_interval=30)
    logger.info("applying the log for %s", ", ".join(use_cases))
    worker = StreamWorker(settings, client, use_cases)
    worker.metrics.serve(settings.stream.port)
    worker.run(stop)


if __name__ == "__main__":
    main()
