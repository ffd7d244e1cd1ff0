"""The data of the feature benchmarks: the same bytes on every run, kept in ``.evergreen/bench/data``.

Sizes are those of issue 3's table: 1M questions over 100k entities and 14 days of 20 columns; 1M questions over 5M
events with two keys.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from bench.peers import HOME

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# raised whenever what is made below changes
VERSION = 1
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START_US = 19_700 * DAY_US

ENTITIES = 100_000
DAYS = 14
COLUMNS = tuple(f"f{i:02d}" for i in range(20))
QUESTIONS = 1_000_000

EVENTS = 5_000_000
EVENT_DAYS = 28
QUESTION_DAYS = 21
USERS = 100_000
ITEMS = 10_000
TILE_US = 300_000_000
WINDOWS_US = (HOUR_US, DAY_US, 7 * DAY_US)
CENT = 0.01

ONLINE_ENTITIES = 10_000


@dataclass(frozen=True)
class Files:
    """Where the data is.

    Args:
        daily: one row per entity and day, days in order, entities in any: ``entity`` int64, ``at`` (midnight), and
            `COLUMNS`, float64 as most tables have it.
        questions: ``entity`` and ``at`` of 1M questions, in order of time.
        events: 5M events in order of time: ``at``, ``user``, ``item`` (int64), ``amount`` (whole cents, float64).
        window_questions: ``at``, ``user`` and ``item`` of 1M questions in the events' last three weeks, in order.
    """

    daily: Path
    questions: Path
    events: Path
    window_questions: Path


def files() -> Files:
    """The data, made first where it is missing."""
    folder = HOME / "data" / f"v{VERSION}"
    found = Files(*(folder / f"{name}.parquet" for name in ("daily", "questions", "events", "window_questions")))
    if not folder.exists():
        making = folder.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        console = Console(stderr=True)
        for path, make in ((found.daily, _daily), (found.questions, _questions), (found.events, _events)):
            with console.status(f"benchmark data: {path.stem}"):
                _write(making / path.name, make())
        with console.status("benchmark data: window_questions"):
            _write(making / found.window_questions.name, _window_questions())
        making.rename(folder)
    return found


def stream_events(n: int) -> dict[str, npt.NDArray[Any]]:
    """The first `n` events of the log as columns: ``at_us``, ``user``, ``item`` and ``amount``, each of shape (n,)."""
    table = pq.ParquetFile(files().events).iter_batches(batch_size=n)
    batch = next(table)
    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in ("user", "item", "amount")}
    return {"at_us": batch.column("at").cast(pa.int64()).to_numpy(), **columns}


def online_values(view: str) -> npt.NDArray[np.float32]:
    """What the view ``user`` or ``item`` holds for each of `ONLINE_ENTITIES` entities, shape (entities, 20)."""
    rng = np.random.default_rng((5, "user item".index(view)))
    return rng.standard_normal((ONLINE_ENTITIES, len(COLUMNS)), dtype=np.float32)


def online_questions(calls: int, entities: int) -> Ints:
    """Which entities each call reads, shape (calls, entities); no entity twice within a call."""
    rng = np.random.default_rng(6)
    return np.stack([rng.choice(ONLINE_ENTITIES, entities, replace=False) for _ in range(calls)])


def _daily() -> pa.Table:
    rng = np.random.default_rng(1)
    entity = np.concatenate([rng.permutation(ENTITIES) for _ in range(DAYS)])
    at = np.repeat(START_US + DAY_US * np.arange(DAYS), ENTITIES)
    values = {name: rng.standard_normal(len(at)) for name in COLUMNS}
    return pa.table({"entity": entity, "at": _moments(at), **values})


def _questions() -> pa.Table:
    rng = np.random.default_rng(2)
    at = np.sort(START_US + rng.integers(0, DAYS * DAY_US, QUESTIONS))
    return pa.table({"entity": rng.integers(0, ENTITIES, QUESTIONS), "at": _moments(at)})


def _events() -> pa.Table:
    rng = np.random.default_rng(3)
    at = np.sort(START_US + rng.integers(0, EVENT_DAYS * DAY_US, EVENTS))
    # an amount is whole cents, so that sums are exact and results can be compared to the last bit
    amount = np.rint(rng.lognormal(2.5, 1.0, EVENTS) / CENT) * CENT
    return pa.table({"at": _moments(at), **_pairs(rng, EVENTS), "amount": amount})


def _window_questions() -> pa.Table:
    rng = np.random.default_rng(4)
    since = START_US + (EVENT_DAYS - QUESTION_DAYS) * DAY_US
    at = np.sort(since + rng.integers(0, QUESTION_DAYS * DAY_US, QUESTIONS))
    return pa.table({"at": _moments(at), **_pairs(rng, QUESTIONS)})


def _pairs(rng: np.random.Generator, n: int) -> dict[str, Ints]:
    return {"user": _popular(rng, USERS, 0.6, n), "item": _popular(rng, ITEMS, 1.0, n)}


def _popular(rng: np.random.Generator, size: int, exponent: float, n: int) -> Ints:
    """`n` ids of `size`, the k-th most popular in proportion to k ** -exponent; popularity says nothing of the id."""
    share = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)
    rank = np.searchsorted(share, rng.random(n) * share[-1])
    # the same ids are popular in the events and in the questions
    ids: Ints = np.random.default_rng(size).permutation(size)[rank]
    return ids


def _moments(at_us: Ints) -> pa.Array:
    return pa.array(at_us, pa.timestamp("us", tz="UTC"))


def _write(path: Path, table: pa.Table) -> None:
    # random numbers do not repeat: a dictionary of them would only slow every reader down
    pq.write_table(table, path, row_group_size=100_000, use_dictionary=False)
