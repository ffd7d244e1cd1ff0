"""New values by small steps equal those computed from all events at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features import tiles
from features.definitions import WindowView, feature_set
from features.online.packing import pack_windows, unpack_each
from features.streaming.partition_store import split
from features.streaming.value_cache import ValueCache
from features.streaming.window_values import coded_values, entity_codes, updated
from features.streams import entity_text
from tests.rich_use_case import rich_use_case

HOUR = 3_600_000_000
VIEWS = feature_set(rich_use_case()).window_views
event = st.tuples(
    st.integers(0, 4),
    st.integers(0, 40),
    st.none() | st.sampled_from([0.1, -3.0, 1e6]),
    st.sampled_from(["", "a", "ü"]),
)


def rows_of(view: WindowView, events: list[tuple[int, int, float | None, str]]) -> tuple[np.ndarray, np.ndarray]:
    fields = {
        "amount": np.array([e[2] for e in events], dtype=np.float64),
        "city": np.array([e[0] for e in events], dtype=np.float64),
        "buyer": np.array([e[3] for e in events], dtype=object),
    }
    at_us = np.array([e[1] * HOUR for e in events], dtype=np.int64)
    return np.array([e[0] for e in events], dtype=np.int64), tiles.event_rows(view, at_us, fields)


@given(batches=st.lists(st.lists(event, min_size=1, max_size=12), min_size=1, max_size=6), number=st.integers(0, 2))
def test_values_do_not_depend_on_the_batches(
    batches: list[list[tuple[int, int, float | None, str]]], number: int
) -> None:
    view = VIEWS[number]
    values: dict[int, bytes] = {}
    for position, batch in enumerate(batches, 1):
        owner, rows = rows_of(view, batch)
        touched, local = np.unique(owner, return_inverse=True)
        held = [values.get(entity) for entity in touched.tolist()]
        positions = np.full(len(touched), position, dtype=np.int64)
        values |= zip(touched.tolist(), split(*updated(view, held, local, rows, positions)), strict=True)
    whole = [e for batch in batches for e in batch]
    owner, rows = tiles.merge(view, *rows_of(view, whole))
    last = {e[0]: i for i, batch in enumerate(batches, 1) for e in batch}
    entities = sorted(last)
    _, local = np.unique(owner, return_inverse=True)
    expected = split(*pack_windows(np.array([last[e] for e in entities]), local, rows))
    assert [values[e] for e in entities] == expected
    positions, again, unpacked = unpack_each([*expected, None], rows.shape[1])
    assert positions.tolist() == [*(last[e] for e in entities), 0]
    assert again.tolist() == local.tolist()
    assert np.array_equal(unpacked, rows)


@given(
    rows=st.lists(st.tuples(st.sampled_from(["a", "b\x1f", "\\", None]), st.none() | st.integers(-2, 2)), min_size=1)
)
def test_entities_of_several_fields_are_told_apart(rows: list[tuple[str | None, int | None]]) -> None:
    columns = [np.array(values, dtype=object) for values in zip(*rows, strict=True)]
    codes, names = entity_codes([coded_values(column) for column in columns])
    assert len(set(names)) == len(names)
    for row, code in zip(rows, codes.tolist(), strict=True):
        assert (code < 0) == (None in row)
        assert code < 0 or names[code] == entity_text(row)


def test_the_cache_lets_old_values_go() -> None:
    cache = ValueCache(4_000)
    for i in range(100):
        cache.put([b"%d" % i], [b"x" * 50])
    found, is_young = cache.get([b"99", b"0"])
    assert found == [b"x" * 50, None]
    assert not is_young[1]
    assert len(cache._young) + len(cache._old) <= 22
