"""Windows: 1M rows, counts and sums over 1 h, 24 h and 7 d of two keys, 5M events."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from bench import data
from bench.contest import Entry, Score, contest
from bench.joins import OURS, require_equal
from bench.measure import Result
from bench.ours_logs import write_events

_WHAT = "windows, 1M rows x 12 over 5M events"
_ONE, _TWO = "NumPy by hand, one thread", "NumPy by hand, two threads"
_SAMPLE = 100


def run(n: int = 5) -> list[Result]:
    """Measure, with `n` counted runs of each."""
    files = data.files()
    entries = [
        Entry.module(name, sys.executable, "bench.handtuned", k, files.events, files.window_questions, threads=k)
        for k, name in ((1, _ONE), (2, _TWO))
    ]
    with tempfile.TemporaryDirectory() as folder:
        offline = Path(folder) / "offline"
        with Console(stderr=True).status("windows: writing the offline log"):
            write_events(files.events, offline)
        entries.append(
            Entry.module(OURS, sys.executable, "bench.ours_join", "windows", files.window_questions, offline)
        )
        scores = contest(entries, n, Path(folder))
        require_equal(Path(folder), list(scores))
        _require_true(np.load(Path(folder) / f"{_ONE}.npy"), files)
    return [replace(result, n=n) for result in results(scores)]


def results(scores: dict[str, Score]) -> list[Result]:
    """Figures of everyone; the product's with what the issue asks of it."""
    times = {name: Result(f"{_WHAT}: {name}", score.median, "s", "lower") for name, score in scores.items()}
    ours = times.pop(OURS, None)
    found = list(times.values())
    return [*found, *(ours.versus(times[name], 1.5) for name in (_ONE, _TWO))] if ours else found


def brute_force(events: dict[str, npt.NDArray[np.int64]], question: dict[str, int]) -> list[float]:
    """A question's 12 values, straight from the definition: tiles in (now - W, now], events not after it."""
    row = []
    now = question["at"] // data.TILE_US
    tile = events["at"] // data.TILE_US
    for key in ("user", "item"):
        mine = (events[key] == question[key]) & (events["at"] <= question["at"])
        for length in data.WINDOWS_US:
            inside = mine & (tile > now - length // data.TILE_US) & (tile <= now)
            row += [float(inside.sum()), float(events["cents"][inside].sum() * data.CENT)]
    return row


def _require_true(matrix: npt.NDArray[np.float32], files: data.Files) -> None:
    """A sample of the rows is what the definition gives.

    Raises:
        ValueError: if one is not.
    """
    table, asked = pq.read_table(files.events), pq.read_table(files.window_questions)
    events = {"at": table["at"].cast(pa.int64()).to_numpy(), **{k: table[k].to_numpy() for k in ("user", "item")}}
    events["cents"] = np.rint(table["amount"].to_numpy() / data.CENT).astype(np.int64)
    at = asked["at"].cast(pa.int64())
    for i in np.random.default_rng(7).integers(0, len(asked), _SAMPLE).tolist():
        question = {"at": at[i].as_py(), **{key: asked[key][i].as_py() for key in ("user", "item")}}
        expected = np.array(brute_force(events, question), dtype=np.float32)
        if not np.array_equal(matrix[i], expected):
            raise ValueError(f"question {i}: {matrix[i].tolist()} is not {expected.tolist()}")
