import sys

import pytest

from bench.contest import Entry, contest

_HOLD = """
from bench.contender import serve
import sys
kept = bytearray(50_000_000)
def work():
    print("noise")
    return bytearray(b"x") * int(sys.argv[1])
serve(work, lambda result, path: open(path, "wb").write(result))
"""


def _holding(size):
    return Entry("holder", (sys.executable, "-c", _HOLD, str(size)))


def test_a_contender_is_timed_and_its_memory_counted_without_what_it_had_before(tmp_path):
    score = contest([_holding(100_000_000)], n=2, results=tmp_path)["holder"]
    assert len(score.seconds) == 2
    assert 90e6 < score.added < 130e6
    assert (tmp_path / "holder.npy").stat().st_size == 100_000_000


def test_the_parents_memory_does_not_count():
    big = bytearray(b"x") * 300_000_000
    score = contest([_holding(1)], n=1)["holder"]
    assert score.peak < len(big)


def test_a_contender_that_fails_is_named():
    with pytest.raises(RuntimeError, match="broken ended before it answered"):
        contest([Entry("broken", (sys.executable, "-c", "raise SystemExit(3)"))])
