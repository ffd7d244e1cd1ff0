"""Online reads of one entity pair x 40 features and of 100 entities x 20, from one Redis."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.contest import Entry, Score, contest
from bench.joins import OURS, require_equal
from bench.measure import Result
from bench.peers import peer_python
from bench.redis_server import redis_server

_BARE = "redis-py MGET + frombuffer"
_FEAST = {"Feast get_online_features": "response", "Feast get_online_features().to_dict()": "dict"}
_WHAT = {"pair": "online read, 1 entity pair x 40", "hundred": "online read, 100 entities x 20"}
_CALLS = {"pair": 500, "hundred": 100}


def run(n: int = 5) -> list[Result]:
    """Measure, with `n` counted runs of each."""
    found = []
    with redis_server() as port:
        for shape, calls in _CALLS.items():
            found += results(shape, _scores(port, shape, calls, n))
    return [replace(result, n=n) for result in found]


def results(shape: str, scores: dict[str, Score]) -> list[Result]:
    """Figures of everyone; the product's with what the issue asks of it."""
    per_call_ms = 1e3 / _CALLS[shape]
    times = {
        name: Result(f"{_WHAT[shape]}: {name}", score.median * per_call_ms, "ms", "lower")
        for name, score in scores.items()
    }
    ours = times.pop(OURS, None)
    found = list(times.values())
    if ours:
        found += [ours.versus(times[name], 1 / 10) for name in _FEAST] + [ours.versus(times[_BARE], 1.5)]
    return found


def _scores(port: int, shape: str, calls: int, n: int) -> dict[str, Score]:
    with tempfile.TemporaryDirectory() as folder:
        entries = [Entry.module(_BARE, sys.executable, "bench.bare_online", port, shape, calls)]
        for name, answer in _FEAST.items():
            own = Path(folder) / answer
            own.mkdir()
            entries.append(
                Entry.module(name, peer_python(), "bench.peer_feast_online", port, shape, calls, own, answer)
            )
        entries.append(Entry.module(OURS, sys.executable, "bench.ours_online", port, shape, calls))
        scores = contest(entries, n, Path(folder))
        require_equal(Path(folder), list(scores))
    return scores
