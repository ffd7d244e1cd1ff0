"""Window sums by hand: NumPy prefix sums and `searchsorted`, for one set of data, as fast as could be made.

``python -m bench.handtuned <threads> <events.parquet> <questions.parquet>``: see `bench.contender`. It leaves out all
that a feature store is for: nulls, late and repeated events, ids that are not small integers, memory bounds.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from bench.contender import serve
from bench.data import CENT, TILE_US, WINDOWS_US

Ints = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
KEYS = ("user", "item")
_PER_KEY = 2 * len(WINDOWS_US)


def windows(events: str, questions: str, threads: int) -> Matrix:
    """Counts and sums of each question's windows.

    Args:
        events: Parquet in order of time: ``at``, the keys, ``amount``.
        questions: Parquet: ``at`` and the keys.
        threads: 1, or 2: one for each key, which also read the files together.

    Returns:
        Shape (n, 12), float32: for each key, for each window, count and sum. A window W at time t holds the events in
        tiles (t's - W, t's] that happened at or before t.
    """
    log = _columns(events, ["at", *KEYS, "amount"], threads)
    asked = _columns(questions, ["at", *KEYS], threads)
    cents = np.rint(log["amount"] / CENT).astype(np.int64)
    matrix = np.empty((len(asked["at"]), len(KEYS) * _PER_KEY), dtype=np.float32)

    def fill(i: int) -> None:
        key = KEYS[i]
        _fill(matrix[:, i * _PER_KEY : (i + 1) * _PER_KEY], log[key], log["at"], cents, asked[key], asked["at"])

    if threads == 1:
        for i in range(len(KEYS)):
            fill(i)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(len(KEYS))))
    return matrix


def _fill(out: Matrix, owner: Ints, at_us: Ints, cents: Ints, reader: Ints, now_us: Ints) -> None:
    since = int(min(at_us[0], now_us.min())) // TILE_US * TILE_US
    span = int(max(at_us[-1], now_us.max())) - since + 1
    row = _grouped(owner)
    haystack = owner[row] * span + (at_us[row] - since)
    total = np.zeros(len(row) + 1, dtype=np.int64)
    np.cumsum(cents[row], out=total[1:])
    # needles in order: neighbours end up at neighbouring places, which is worth four times the sort
    order = _grouped(reader)
    first, now = reader[order] * span, now_us[order] - since
    high = np.searchsorted(haystack, first + now, side="right")
    upto = total[high]
    block = np.empty((len(order), _PER_KEY), dtype=np.float32)
    for w, length in enumerate(WINDOWS_US):
        opened = np.maximum((now // TILE_US - (length // TILE_US - 1)) * TILE_US, 0)
        low = np.searchsorted(haystack, first + opened, side="left")
        block[:, 2 * w] = high - low
        block[:, 2 * w + 1] = (upto - total[low]) * CENT
    out[order] = block


def _grouped(owner: Ints) -> Ints:
    """Rows grouped by owner, in their order within each.

    A matrix with a one in each row, in its owner's column, lists by column exactly that; SciPy turns it with a counting
    sort, which is six times as fast as NumPy's fastest sort.
    """
    n = len(owner)
    ones = np.ones(n, dtype=np.int8)
    by_row = csr_array((ones, owner.astype(np.int32), np.arange(n + 1, dtype=np.int32)), shape=(n, owner.max() + 1))
    rows: Ints = by_row.tocsc().indices.astype(np.int64)
    return rows


def _columns(path: str, names: list[str], threads: int) -> dict[str, Ints]:
    table = pq.read_table(path, columns=names, use_threads=threads > 1)
    moments = table["at"].cast(pa.int64())
    return {name: (moments if name == "at" else table[name]).to_numpy() for name in names}


if __name__ == "__main__":
    threads, events, questions = int(sys.argv[1]), *sys.argv[2:]
    serve(lambda: windows(events, questions, threads), lambda matrix, path: np.save(path, matrix))
