"""Features: point-in-time join, online read, stream apply, on taxi trips."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import redis

from bench.measure import Result, median_seconds
from core.discovery import load_use_case
from core.use_case import History, UseCase
from features.apply import Applier, stored_views
from features.importing import instances_of
from features.offline import OfflineLog
from features.online import FeatureReader
from features.point_in_time import IMPORTED, point_in_time_matrix, to_us_array
from features.streams import Entry, Keys, encode_events
from stack.processes import find_redis_server

ROOT = Path(__file__).resolve().parents[1]
_QUESTIONS = 100_000
_EVENTS = 20_000
_ENTRY = 200


def run() -> list[Result]:
    """Measure."""
    use_case = load_use_case(ROOT / "models" / "taxi_tip.py").use_case
    history = use_case.history(ROOT / "data")
    with tempfile.TemporaryDirectory() as folder, _redis(Path(folder)) as client:
        return [
            _join(use_case, history, Path(folder)),
            *_apply(use_case, history, client),
            _read(use_case, history, client),
        ]


def _join(use_case: UseCase, history: History, folder: Path) -> Result:
    log = OfflineLog(folder / "offline")
    events = history.events["taxi_payments"]
    places = np.arange(1, len(events) + 1)
    log.write(
        "log", len(events) + 1, {"events/taxi_payments": events.assign(known_at=events["at"], position=places, row=0)}
    )
    rows = history.requests.iloc[-_QUESTIONS:].assign(watermark=IMPORTED)
    seconds = median_seconds(lambda: point_in_time_matrix(log, use_case, rows))
    return Result("point-in-time join, 100k questions x 45 features", seconds, "s", "lower")


def _apply(use_case: UseCase, history: History, client: redis.Redis) -> list[Result]:
    keys = Keys("bench")
    frame = history.events["taxi_payments"].iloc[:_EVENTS]
    fields = frame.drop(columns="at").assign(at_us=to_us_array(frame["at"]))
    events = cast(list[dict[str, Any]], fields.astype(object).where(fields.notna(), None).to_dict("records"))

    def apply() -> None:
        client.flushdb()
        for i in range(0, _EVENTS, _ENTRY):
            client.xadd(keys.log, encode_events("taxi_payments", events[i : i + _ENTRY], 0))
        applier, cursor = Applier(client, keys, stored_views([use_case])), 0
        entries = cast(list[Entry], client.xrange(keys.log))
        for i in range(0, len(entries), 10):
            cursor = applier.apply(entries[i : i + 10], cursor).position

    rate = _EVENTS / median_seconds(apply)
    return [Result("stream apply, exactly once, 4 window views, Redis included", rate, "events/s", "higher")]


def _read(use_case: UseCase, history: History, client: redis.Redis) -> Result:
    reader = FeatureReader(use_case, client, "bench")
    instances = instances_of(use_case, history.requests.iloc[:64])
    at_us = to_us_array(history.requests["at"].iloc[:64])

    def read() -> None:
        for _ in range(100):
            reader.assemble(instances, at_us)

    return Result("online read and assembly, 64 instances x 45 features", median_seconds(read) * 10, "ms", "lower")


@contextmanager
def _redis(folder: Path) -> Iterator[redis.Redis]:
    socket = folder / "redis.sock"
    command = [find_redis_server(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            process.poll()
        with redis.Redis(unix_socket_path=str(socket)) as client:
            yield client
    finally:
        process.terminate()
        process.wait()
