from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.counts import Counts
from serving.gateway_report import Report, Tally


def report(requests: int, errors: int = 0, version: str = "7") -> Report:
    tally = Tally(requests, errors)
    tally.latency[2] = requests - errors
    return Report({}, {}, {f"toy/{version}": tally}, 0)


def test_a_gateway_that_vanishes_keeps_its_part_and_may_come_back() -> None:
    counts = Counts(keep_s=600)
    counts.look({"a": report(10, 1), "b": report(5)}, 0)
    counts.look({"a": report(12, 1)}, 1)
    assert counts.now("toy", "7").requests == 17
    counts.look({"a": report(12, 1), "b": report(8, 2)}, 2)
    assert (counts.now("toy", "7").requests, counts.now("toy", "7").errors) == (20, 3)


def test_a_gateway_that_counts_less_than_before_has_started_again() -> None:
    counts = Counts(keep_s=600)
    counts.look({"a": report(10, 1)}, 0)
    counts.look({"a": report(3, 1)}, 1)
    assert (counts.now("toy", "7").requests, counts.now("toy", "7").errors) == (13, 2)


def test_the_last_look_and_the_last_minutes_are_told_apart() -> None:
    counts = Counts(keep_s=60)
    for second in range(0, 200, 10):
        counts.look({"a": report(second)}, second)
    assert counts.now("toy", "7").requests == 190
    assert counts.before("toy", "7").requests == 180
    assert counts.lately("toy", "7").requests == 60
    assert counts.lately("toy", "8").requests == 0


def test_before_the_first_look_there_was_nothing_else() -> None:
    counts = Counts(keep_s=60)
    counts.look({"a": report(5)}, 0)
    assert counts.before("toy", "7").requests == 5
    assert counts.lately("toy", "7").requests == 0


def test_a_report_of_another_release_is_left_out() -> None:
    counts = Counts(keep_s=60)
    counts.look({"a": Report({}, {}, {"toy/7": Tally(3, 0, [3])}, 0)}, 0)
    assert counts.now("toy", "7").requests == 0


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)), max_size=20))
def test_totals_never_fall_and_nothing_is_lost(looks: list[dict[str, int]]) -> None:
    counts, last, expected = Counts(keep_s=5), {}, 0
    for now_s, seen in enumerate(looks):
        for gateway, n in seen.items():
            expected += n - last[gateway] if n >= last.get(gateway, n + 1) else n
            last[gateway] = n
        counts.look({gateway: report(n) for gateway, n in seen.items()}, now_s)
        assert counts.now("toy", "7").requests == expected
        assert sum(counts.now("toy", "7").latency) == expected
        assert min(counts.lately("toy", "7").latency) >= 0
