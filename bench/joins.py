"""The as-of join: 1M labelled rows, 20 columns of 100k entities and 14 days."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from bench import data
from bench.contest import Entry, Score, contest
from bench.measure import Result
from bench.ours_logs import write_daily
from bench.peers import peer_python
from bench.redis_server import connect, redis_server

_WHAT = "as-of join, 1M rows x 20 columns"
_MEMORY = "as-of join, memory"
_MEGABYTE = 1e6
_OUTPUT_MB = data.QUESTIONS * len(data.COLUMNS) * 4 / _MEGABYTE
_ENGINES = {
    "DuckDB equi-join by day": "duckdb-equi",
    "DuckDB ASOF": "duckdb-asof",
    "pandas merge_asof": "pandas",
    "Polars join_asof": "polars",
}
_FEAST = "Feast, DuckDB store"
OURS = "Evergreen"


def run(n: int = 5) -> list[Result]:
    """Measure, with `n` counted runs of each."""
    files, python = data.files(), peer_python()
    with tempfile.TemporaryDirectory() as folder:
        offline = Path(folder) / "offline"
        with Console(stderr=True).status("as-of join: writing the offline log"), redis_server() as port:
            write_daily(connect(port), files.daily, offline)
        entries = [
            Entry.module(name, python, "bench.peer_joins", engine, files.daily, files.questions)
            for name, engine in _ENGINES.items()
        ]
        entries.append(Entry.module(_FEAST, python, "bench.peer_feast_join", files.daily, files.questions, folder))
        entries.append(Entry.module(OURS, sys.executable, "bench.ours_join", "daily", files.questions, offline))
        scores = contest(entries, n, Path(folder))
        require_equal(Path(folder), list(scores))
    return [replace(result, n=n) for result in results(scores)]


def results(scores: dict[str, Score]) -> list[Result]:
    """Figures of everyone; the product's with what the issue asks of it."""
    times = {name: Result(f"{_WHAT}: {name}", score.median, "s", "lower") for name, score in scores.items()}
    peaks = {
        name: Result(f"{_MEMORY}: {name}, process at its peak", score.peak / _MEGABYTE, "MB", "lower")
        for name, score in scores.items()
    }
    ours, peak = times.pop(OURS, None), peaks.pop(OURS, None)
    found = [*times.values(), *peaks.values()]
    if ours and peak:
        fastest = min((times[name] for name in _ENGINES), key=lambda r: r.value)
        added = Result(f"{_MEMORY}: {OURS}, added by the join", scores[OURS].added / _MEGABYTE, "MB", "lower")
        output = Result("the matrix itself", _OUTPUT_MB, "MB", "lower")
        found += [
            ours.versus(fastest, 1.5),
            ours.versus(times[_FEAST], 1 / 8),
            peak.versus(peaks[_FEAST], 600 / peaks[_FEAST].value),
            added.versus(output, 2),
        ]
    return found


def require_equal(folder: Path, names: list[str]) -> None:
    """All results are the same to the last bit.

    Raises:
        ValueError: if two differ.
    """
    first = np.load(folder / f"{names[0]}.npy")
    for name in names[1:]:
        other = np.load(folder / f"{name}.npy")
        if not np.array_equal(first, other, equal_nan=True):
            raise ValueError(f"{name} and {names[0]} differ: shapes {other.shape} and {first.shape}")
