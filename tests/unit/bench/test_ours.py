import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import declared
from bench.data import DAY_US, START_US
from bench.ours_join import join
from bench.ours_logs import write_events
from bench.windows import brute_force


def _moments(at_us):
    return pa.array(at_us, pa.timestamp("us", tz="UTC"))


def test_the_products_windows_are_what_the_definition_gives(tmp_path):
    rng = np.random.default_rng(0)
    at = np.sort(rng.integers(START_US, START_US + 9 * DAY_US, 3000))
    asked_at = np.sort(rng.integers(START_US - DAY_US, START_US + 11 * DAY_US, 300))
    cents = rng.integers(1, 10_000, 3000)
    keys = [{"user": rng.integers(0, 20, n), "item": rng.integers(0, 5, n)} for n in (3000, 300)]
    pq.write_table(pa.table({"at": _moments(at), **keys[0], "amount": cents * 0.01}), tmp_path / "events.parquet")
    pq.write_table(pa.table({"at": _moments(asked_at), **keys[1]}), tmp_path / "asked.parquet")
    write_events(tmp_path / "events.parquet", tmp_path / "offline")
    found = join(declared.windows(), str(tmp_path / "asked.parquet"), str(tmp_path / "offline"))
    log, asked = {"at": at, "cents": cents, **keys[0]}, {"at": asked_at, **keys[1]}
    rows = [brute_force(log, {k: int(asked[k][i]) for k in asked}) for i in range(300)]
    np.testing.assert_array_equal(found, np.array(rows, dtype=np.float32))
