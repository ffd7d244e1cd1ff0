import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.data import DAY_US, START_US
from bench.handtuned import windows
from bench.windows import brute_force


def _table(rng, n, since, until):
    at = np.sort(rng.integers(since, until, n))
    keys = {"user": rng.integers(0, 20, n), "item": rng.integers(0, 5, n)}
    return {"at": at, **keys}


def _write(path, columns):
    moments = pa.array(columns["at"], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({**columns, "at": moments}), path)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_hand_tuned_windows_are_what_the_definition_gives(tmp_path, threads):
    rng = np.random.default_rng(0)
    events = _table(rng, 3000, START_US, START_US + 9 * DAY_US)
    cents = rng.integers(1, 10_000, 3000)
    asked = _table(rng, 300, START_US - DAY_US, START_US + 11 * DAY_US)
    _write(tmp_path / "events.parquet", events | {"amount": cents * 0.01})
    _write(tmp_path / "asked.parquet", asked)
    found = windows(str(tmp_path / "events.parquet"), str(tmp_path / "asked.parquet"), threads)
    log = events | {"cents": cents}
    rows = [brute_force(log, {k: int(asked[k][i]) for k in asked}) for i in range(300)]
    np.testing.assert_array_equal(found, np.array(rows, dtype=np.float32))
