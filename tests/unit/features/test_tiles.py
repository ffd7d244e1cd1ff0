"""Rows of tiles combine alike in any order and grouping, and give the values a loop over events gives."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from features import sketch, tiles
from features.definitions import Aggregate, WindowView

MINUTE_US = 60_000_000
KINDS = ("sum", "mean", "min", "max", "last", "distinct")
VIEW = WindowView(
    name="v", entity="shop", source="s", tile=timedelta(minutes=1),
    windows=(timedelta(minutes=3), timedelta(minutes=10)), lateness=timedelta(minutes=2),
    aggregates=(
        Aggregate(name="count", kind="count"),
        *(Aggregate(name=kind, kind=kind, field="x", default=-1.0) for kind in KINDS),
        Aggregate(name="share", kind="ratio", field="x", over="y", default=-2.0),
        Aggregate(name="per_event", kind="ratio", field="x", default=-3.0),
        Aggregate(name="names", kind="distinct", field="name"),
    ),
)  # fmt: skip
values = st.none() | st.integers(-50, 50).map(lambda n: n / 4)
events = st.lists(
    st.tuples(st.integers(0, 14), values, values, st.sampled_from(["", "a", "b", "ü"])), min_size=1, max_size=25
)
Drawn = list[tuple[int, float | None, float | None, str]]


def _rows(drawn: Drawn) -> npt.NDArray[np.int64]:
    at_us = np.array([minute * MINUTE_US + 7 for minute, *_ in drawn], dtype=np.int64)
    fields = {
        "x": np.array([x for _, x, _, _ in drawn], dtype=np.float64),
        "y": np.array([y for _, _, y, _ in drawn], dtype=np.float64),
        "name": np.array([name for *_, name in drawn], dtype=object),
    }
    return tiles.event_rows(VIEW, at_us, fields)


def _by_hand(drawn: Drawn, minutes: int, now: int) -> list[float]:
    inside = [event for event in drawn if now - minutes < event[0] <= now]
    xs = [x for _, x, _, _ in inside if x is not None]
    ys = [y for _, _, y, _ in inside if y is not None]
    newest = max(((minute, x) for minute, x, _, _ in inside if x is not None), default=(0, -1.0))[1]
    share = sum(xs) / sum(ys) if sum(ys) else -2.0
    return [
        len(inside), sum(xs), sum(xs) / len(xs) if xs else -1.0, min(xs, default=-1.0), max(xs, default=-1.0), newest,
        len(set(xs)), share, sum(xs) / len(inside) if inside else -3.0,
        len({name for *_, name in inside if name}),
    ]  # fmt: skip


@given(drawn=events, shuffled=st.randoms(use_true_random=False), split=st.integers(0, 25))
def test_order_and_grouping_change_no_bit(drawn: Drawn, shuffled: object, split: int) -> None:
    owner = np.zeros(len(drawn), dtype=np.int64)
    _, at_once = tiles.merge(VIEW, owner, _rows(drawn))
    mixed = list(drawn)
    shuffled.shuffle(mixed)  # type: ignore[attr-defined]
    first = tiles.merge(VIEW, owner[:split], _rows(mixed)[:split])[1]
    together = np.concatenate([_rows(mixed)[split:], first])
    _, in_parts = tiles.merge(VIEW, np.zeros(len(together), dtype=np.int64), together)
    np.testing.assert_array_equal(in_parts, at_once)


@given(drawn=events, now=st.integers(0, 16))
def test_windows_are_what_a_loop_over_events_gives(drawn: Drawn, now: int) -> None:
    rows = _rows(sorted(drawn, key=lambda event: event[0]))
    first = np.searchsorted(rows[:, 0], [[now - n for n in VIEW.window_tiles]], side="right")
    stop = np.searchsorted(rows[:, 0], [[now, now]], side="right")
    got = tiles.values(VIEW, tiles.fold(VIEW, rows, first, stop))
    expected = _by_hand(drawn, 3, now) + _by_hand(drawn, 10, now)
    np.testing.assert_allclose(got[0], expected, rtol=1e-12, atol=1e-12)


def test_tiles_out_of_reach_are_dropped() -> None:
    drawn: Drawn = [(0, 1.0, 1.0, "a"), (100, 1.0, 1.0, "a"), (100 - VIEW.slots + 1, 1.0, 1.0, "a")]
    _, rows = tiles.merge(VIEW, np.zeros(3, dtype=np.int64), _rows(drawn))
    assert rows[:, 0].tolist() == [100 - VIEW.slots + 1, 100]


def test_values_beyond_what_is_kept_exactly_are_bounded() -> None:
    row = _rows([(0, 1e300, None, "a")])
    assert row[0, 3] == tiles.LARGEST_MULTIPLE


def test_distinct_counts_are_about_right() -> None:
    for n in (3, 10, 1000, 50_000):
        counts = [
            sketch.estimate(
                sketch.union_of_runs(sketch.of_each(np.arange(n) + 1e6 * seed), np.zeros(1, dtype=np.int64))
            )[0]
            for seed in range(20)
        ]
        assert abs(np.mean(counts) / n - 1) < 0.06
    assert sketch.estimate(sketch.of_each(np.array(["", "a"], dtype=object))).tolist() == [0, 1]
    assert sketch.estimate(sketch.of_each(np.array([np.nan, -0.0, 0.0]))).tolist() == [0, 1, 1]
