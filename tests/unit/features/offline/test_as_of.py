"""The kernels of the joins equal loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from core.use_case import Field
from features.columns import column_array
from features.offline.as_of import as_of_rows
from features.offline.grouping import SearchAxis, coded, entity_codes, order_by_group, shares, text_codes
from features.offline.questions import field_column, known_column
from features.offline.range_folds import fold_ranges, greatest, newest
from features.streams import entity_text

small = st.integers(0, 6)
far = st.sampled_from([0, 1, 5, 2**60, -(2**60)])


def ints(values: Any) -> Any:
    return np.array(list(values), dtype=np.int64)


@given(
    questions=st.lists(st.tuples(st.integers(-1, 5), far | small)),
    rows=st.lists(st.tuples(st.integers(0, 4), far | small, small)),
)
def test_as_of_rows_equal_a_loop(questions: list[tuple[int, int]], rows: list[tuple[int, int, int]]) -> None:
    expected = []
    for entity, known in questions:
        seen = [(at, i) for i, (e, k, at) in enumerate(rows) if e == entity and k <= known]
        expected.append(max(seen)[1] if seen else -1)
    found = as_of_rows(
        ints(q[0] for q in questions), ints(q[1] for q in questions), *(ints(r[i] for r in rows) for i in range(3)),
        entities=5,
    )  # fmt: skip
    assert found.tolist() == expected


@given(values=st.lists(small, min_size=1, max_size=40), data=st.data())
def test_ranges_fold_as_a_loop_does(values: list[int], data: st.DataObject) -> None:
    bound = st.integers(0, len(values))
    pairs = [p for p in data.draw(st.lists(st.tuples(bound, bound))) if p[0] < p[1]]
    first, stop = ints(p[0] for p in pairs), ints(p[1] for p in pairs)
    assert fold_ranges((ints(values),), first, stop, greatest)[0].tolist() == [max(values[a:b]) for a, b in pairs]
    moments = ints(v // 2 for v in values)
    at, value = fold_ranges((moments, ints(values)), first, stop, newest)
    expected = [max(zip(moments[a:b].tolist(), values[a:b], strict=True)) for a, b in pairs]
    assert list(zip(at.tolist(), value.tolist(), strict=True)) == expected


@given(groups=st.lists(st.integers(0, 9)))
def test_rows_are_grouped_in_their_order(groups: list[int]) -> None:
    assert order_by_group(ints(groups), 10).tolist() == sorted(range(len(groups)), key=lambda i: groups[i])


@given(rows=st.lists(st.tuples(small, far | small)), asked=st.lists(st.tuples(small, far | small)))
def test_an_axis_counts_what_comes_before(rows: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    order = ints(sorted(range(len(rows)), key=lambda i: rows[i]))
    axis = SearchAxis(ints(r[0] for r in rows), ints(r[1] for r in rows), 7, order)
    found = axis.upto(ints(q[0] for q in asked), ints(q[1] for q in asked))
    assert found.tolist() == [sum(row <= question for row in rows) for question in asked]


texts = st.none() | st.sampled_from(["", "a", "1", "ü", "\x1f", "\\"])
numbers = st.none() | st.integers(-2, 3) | st.just(2**40)


@given(
    asked=st.lists(st.tuples(texts, numbers), min_size=1),
    held=st.lists(st.tuples(texts, numbers), min_size=1),
    as_text=st.booleans(),
)
def test_entities_are_told_apart_by_all_their_keys(asked: list[Any], held: list[Any], as_text: bool) -> None:
    def column(rows: list[Any], i: int) -> pd.Series:
        return pd.Series([row[i] for row in rows], dtype=object if i == 0 else "Int64")

    mine = [coded(column(asked, i)) for i in range(2)]
    second = pa.chunked_array(
        [pa.array([None if r[1] is None else str(r[1]) for r in held], pa.string()).dictionary_encode()]
    )
    theirs = [
        coded(pa.chunked_array([pa.array([r[0] for r in held], pa.string()).dictionary_encode()])),
        coded(second) if as_text else coded(column(held, 1)),
    ]
    ours, owner, entities = entity_codes(mine, theirs)
    known = {row for row in held if row[0] and row[1] is not None}
    for question, code in zip(asked, ours.tolist(), strict=True):
        assert 0 <= code <= entities
        assert [code == other for other in owner.tolist()] == [question == row and question in known for row in held]
    stored = sorted({entity_text(row) for row in known})
    places = text_codes(mine, pa.array(stored, pa.string()))
    for question, place in zip(asked, places.tolist(), strict=True):
        assert place == (stored.index(entity_text(question)) if question in known else -1)
    split, other = shares(mine, 3), shares(theirs, 3)
    for i, question in enumerate(asked):
        assert all(split[i] == other[j] for j, row in enumerate(held) if row == question and question in known)


@given(values=st.lists(st.none() | st.integers(-5, 5)), text=st.lists(st.none() | st.sampled_from(["", "a", "ü"])))
def test_columns_of_questions_are_those_of_requests(values: list[int | None], text: list[str | None]) -> None:
    for field, given_values, series in (
        (Field(name="n", dtype="int", nullable=True), values, pd.Series(values, dtype="float64")),
        (Field(name="n", dtype="float", nullable=True), values, pd.Series(values, dtype="Int64")),
        (Field(name="s", dtype="str", nullable=True), text, pd.Series(text, dtype=object)),
        (Field(name="n", dtype="int"), [v or 0 for v in values], pd.Series([v or 0 for v in values], dtype="int64")),
    ):
        expected, found = column_array(field, given_values), field_column(field, series)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_what_is_not_recorded_goes_by_time() -> None:
    rows = pd.DataFrame({"some": pd.array([2**62 + 1, None, -7], dtype="Int64"), "none": [-1, -1, -1]})
    known = known_column(rows, "some")
    assert known is not None
    assert known.tolist() == [2**62 + 1, -1, -1]
    assert known_column(rows, "none") is None
    assert known_column(rows, "absent") is None
