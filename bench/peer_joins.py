"""The as-of join of the daily table, hand-tuned for one engine. Runs in the peers' environment.

``python -m bench.peer_joins <engine> <daily.parquet> <questions.parquet>``: see `bench.contender`. Every engine reads
both files and ends with the same matrix: float32, C-ordered, one row per question, in their order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow.parquet as pq

from bench.contender import serve
from bench.data import COLUMNS

Matrix = npt.NDArray[np.float32]
_DAY = "epoch_us({}.at) // 86400000000"
_SELECTED = ", ".join(f"f.{name}" for name in COLUMNS)
# narrowed before the join: half the bytes go through it
_NARROW = ", ".join(f"d.{name}::FLOAT AS {name}" for name in COLUMNS)


def duckdb_equi(daily: str, questions: str) -> Matrix:
    """Equality of entity and day: knows that there is a row for every day."""
    return _duckdb(
        f"SELECT {_SELECTED} FROM read_parquet('{questions}', file_row_number = true) q"
        f" JOIN (SELECT d.entity, {_DAY.format('d')} AS day, {_NARROW} FROM read_parquet('{daily}') d) f"
        f" ON f.entity = q.entity AND f.day = {_DAY.format('q')} ORDER BY q.file_row_number"
    )


def duckdb_asof(daily: str, questions: str) -> Matrix:
    """DuckDB's own as-of join."""
    return _duckdb(
        f"SELECT {_SELECTED} FROM read_parquet('{questions}', file_row_number = true) q"
        f" ASOF JOIN (SELECT d.entity, d.at, {_NARROW} FROM read_parquet('{daily}') d) f"
        " ON f.entity = q.entity AND q.at >= f.at ORDER BY q.file_row_number"
    )


def pandas_asof(daily: str, questions: str) -> Matrix:
    """`merge_asof` finds the rows, one take per column fetches them: carrying 20 columns through it is slower."""
    left, table = pq.read_table(questions).to_pandas(), pq.read_table(daily)
    right = table.select(["entity", "at"]).to_pandas()
    right["found"] = np.arange(len(right))
    found = pd.merge_asof(left, right, on="at", by="entity")["found"].to_numpy()
    return _matrix([table[name].to_numpy()[found] for name in COLUMNS])


def polars_asof(daily: str, questions: str) -> Matrix:
    """`join_asof` of all columns; the questions are in order of time, so what comes out is in theirs."""
    left = pl.read_parquet(questions).set_sorted("at")
    right = pl.scan_parquet(daily).with_columns(pl.col(COLUMNS).cast(pl.Float32)).collect().set_sorted("at")
    joined = left.join_asof(right, on="at", by="entity", check_sortedness=False)
    return _matrix([joined[name].to_numpy() for name in COLUMNS])


def _duckdb(query: str) -> Matrix:
    with duckdb.connect() as connection:
        columns = connection.execute(query).fetchnumpy()
    return _matrix([columns[name] for name in COLUMNS])


def _matrix(columns: Sequence[npt.NDArray[Any]]) -> Matrix:
    """Columns side by side; in blocks that stay in the cache, because `np.stack` takes twice as long."""
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
    for first in range(0, len(matrix), 8192):
        block = slice(first, first + 8192)
        for i, column in enumerate(columns):
            matrix[block, i] = column[block]
    return matrix


ENGINES: dict[str, Callable[[str, str], Matrix]] = {
    "duckdb-equi": duckdb_equi,
    "duckdb-asof": duckdb_asof,
    "pandas": pandas_asof,
    "polars": polars_asof,
}

if __name__ == "__main__":
    engine, paths = ENGINES[sys.argv[1]], sys.argv[2:]
    serve(lambda: engine(*paths), lambda matrix, path: np.save(path, matrix))
