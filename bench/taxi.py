"""The join and the read of a real use case, `taxi_tip`, whose 45 features are of every kind."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.measure import Result, median_seconds
from bench.ours_logs import materialize
from bench.peers import ROOT
from bench.redis_server import connect, redis_server
from core.clock import to_us
from core.discovery import load_use_case
from core.settings import RedisSettings, Settings, StreamSettings
from features.definitions import key_groups
from features.offline.importing import instances_of
from features.offline.log import OfflineLog
from features.offline.point_in_time import point_in_time_matrix, to_us_array
from features.online.reader import FeatureReader
from features.streaming.worker import StreamWorker
from features.streams import Keys, encode_events, fan_out

_SOURCE = "taxi_payments"
_QUESTIONS = 100_000
_INSTANCES = 64
_READS = 100
_PER_ENTRY = 500
_BEFORE_LAST = timedelta(days=28)


def run(n: int = 5) -> list[Result]:
    """Measure, with `n` counted runs: all events applied by a stream worker, a generation of each batch view."""
    use_case = load_use_case(ROOT / "models" / "taxi_tip.py").use_case
    history = use_case.history(ROOT / "data")
    requests, frame = history.requests, history.events[_SOURCE].sort_values("at", kind="stable")
    keys = Keys("taxi")
    with tempfile.TemporaryDirectory() as folder, redis_server() as port, connect(port) as client:
        settings = Settings(
            home=Path(folder),
            clock="event",
            redis=RedisSettings(url=f"redis://127.0.0.1:{port}/0", namespace=keys.namespace),
            stream=StreamSettings(flush_every_s=1e5, lease_s=1e5),
        )
        fields = frame.drop(columns="at").assign(at_us=to_us_array(frame["at"]))
        events = cast(list[dict[str, Any]], fields.astype(object).where(fields.notna(), None).to_dict("records"))
        groups = key_groups([use_case], _SOURCE)
        for first in range(0, len(events), _PER_ENTRY):
            part = events[first : first + _PER_ENTRY]
            for place, rows in fan_out(groups, part, 1).items():
                client.xadd(keys.log(0), encode_events(_SOURCE, place, rows, part[-1]["at_us"]))
        client.xadd(keys.log(0), {"kind": "flush"})
        worker = StreamWorker(settings, client, {use_case.name: use_case})
        while worker.step() is not None:
            pass
        last = frame["at"].iloc[-1].to_pydatetime()
        materialize(client, keys.namespace, use_case, ROOT / "data", settings.offline_dir, last - _BEFORE_LAST)
        log, asked = OfflineLog(settings.offline_dir), requests.iloc[-_QUESTIONS:]
        join_s = median_seconds(lambda: point_in_time_matrix(log, use_case, asked), n)
        reader, newest = FeatureReader(use_case, client, keys.namespace), requests.iloc[-_INSTANCES:]
        instances = instances_of(use_case, newest)
        at_us = np.full(_INSTANCES, to_us(last), dtype=np.int64)
        read_s = median_seconds(lambda: [reader.assemble(instances, at_us) for _ in range(_READS)], n)
    return [
        Result(f"taxi_tip, join: {len(asked):,} rows x 45", join_s, "s", "lower", n=n),
        Result(f"taxi_tip, online read: {_INSTANCES} x 45", read_s / _READS * 1e3, "ms", "lower", n=n),
    ]
