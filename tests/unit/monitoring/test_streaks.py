from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.streaks import Streaks

values = st.lists(st.sampled_from([1.0, 2.0, float("nan")]), min_size=1, max_size=12)


def longest(rows: list[float]) -> int:
    best = run = 1
    for before, after in pairwise(rows):
        run = run + 1 if before == after else 1
        best = max(best, run)
    return best


@given(st.lists(values, min_size=1, max_size=4))
def test_chunks_know_the_longest_run_of_all_rows(chunks: list[list[float]]) -> None:
    found = None
    for chunk in chunks:
        streaks = Streaks.of([np.array(chunk, dtype=np.float32)])
        found = streaks if found is None else found.then(streaks)
    assert found is not None
    rows = [value for chunk in chunks for value in chunk]
    assert (int(found.longest[0]), found.rows) == (longest(rows), len(rows))
