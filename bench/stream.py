"""Stream apply: events from Redis Streams to the values of two keys x two windows, exactly once."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import data, windows
from bench.contest import Entry, Score, contest
from bench.measure import Result
from bench.ours_stream import sampled
from bench.redis_server import redis_server

_WHAT = "stream apply, exactly once, two keys x two windows"
_TARGET = 100_000
_CHECKED = 10


def run(events: int = 500_000, n: int = 5) -> list[Result]:
    """Measure.

    Args:
        events: how many; of those that come one by one, a fifth.
        n: counted runs.
    """
    ways = {
        "500 events an entry": (events, 500, "keep"),
        "500 events an entry, and into Parquet": (events, 500, "flush"),
        "1 event an entry": (events // 5, 1, "keep"),
    }
    with redis_server() as port, tempfile.TemporaryDirectory() as folder:
        entries = [
            Entry.module(name, sys.executable, "bench.ours_stream", port, "stream", *way) for name, way in ways.items()
        ]
        scores = contest(entries, n, Path(folder))
        for name, (sent, _, _) in ways.items():
            _require_true(np.load(Path(folder) / f"{name}.npy"), sent)
    return results(scores, {name: sent for name, (sent, _, _) in ways.items()}, n)


def results(scores: dict[str, Score], events: dict[str, int], n: int = 5) -> list[Result]:
    """Rates; the first is what the issue asks for."""
    return [
        Result(f"{_WHAT}: {name}", events[name] / score.median, "events/s", "higher", None if i else _TARGET, n=n)
        for i, (name, score) in enumerate(scores.items())
    ]


def _require_true(matrix: npt.NDArray[np.float32], events: int) -> None:
    """What readers get is what the definition gives.

    Raises:
        ValueError: if it is not.
    """
    columns = data.stream_events(events)
    log = {"at": columns["at_us"], "user": columns["user"], "item": columns["item"]}
    log["cents"] = np.rint(columns["amount"] / data.CENT).astype(np.int64)
    users, items, at_us = sampled(events)
    for i in range(_CHECKED):
        row = windows.brute_force(log, {"at": at_us, "user": int(users[i]), "item": int(items[i])})
        expected = np.array(row, dtype=np.float32).reshape(2, len(data.WINDOWS_US), 2)[:, :2].ravel()
        if not np.array_equal(matrix[i], expected):
            raise ValueError(f"pair {i}: {matrix[i].tolist()} is not {expected.tolist()}")
