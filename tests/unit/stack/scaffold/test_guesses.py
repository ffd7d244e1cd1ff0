"""Guesses of times, labels and leaks, one at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.use_case import RESERVED_NAMES
from stack.scaffold.columns import describe
from stack.scaffold.deciding import declare
from stack.scaffold.declaration import Choices
from stack.scaffold.labels import guess_label, label_source, outcomes
from stack.scaffold.layout import WIDTH, laid_out, quoted
from stack.scaffold.names import identifiers
from stack.scaffold.times import guess_time, moments, time_source
from tests.tables import ROWS, orders

MOMENT = pd.Series(pd.date_range("2023-02-03 04:05", periods=400, freq="26h", tz="UTC"))


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S",
        "%Y/%m/%d %H:%M", "%m/%d/%Y %I:%M %p", "%d %b %Y %H:%M", "%b %d, %Y %H:%M", "%d-%m-%Y %H:%M",
    ],
)  # fmt: skip
def test_times_written_in_many_ways_are_read(form: str) -> None:
    values = MOMENT.dt.strftime(form).rename("when")
    source = time_source(values, describe(values))
    assert source is not None
    assert (moments(values.to_frame(), source) == MOMENT).all()


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p"])
def test_day_and_month_are_told_apart_even_within_a_few_days(form: str) -> None:
    few = pd.Series(pd.date_range("2023-01-01", periods=400, freq="10min", tz="UTC"))
    values = few.dt.strftime(form).rename("when")
    source = time_source(values, describe(values))
    assert source is not None and source.form == form


@pytest.mark.parametrize("form", ["%Y%m%d", "%y%m%d%H", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"])
def test_times_written_as_numbers_are_read(form: str) -> None:
    values = MOMENT.dt.strftime(form).astype("int64").rename("when")
    source = time_source(values, describe(values))
    assert source is not None
    assert (moments(values.to_frame(), source) == pd.to_datetime(MOMENT.dt.strftime(form), format=form, utc=True)).all()


@pytest.mark.parametrize("name", ["price", "user_id"])
def test_other_columns_are_no_times(name: str) -> None:
    rng = np.random.default_rng(0)
    for values in (rng.gamma(2, 20, 500), rng.integers(1_500_000_000, 1_700_000_000, 500), rng.integers(0, 5, 500)):
        column = pd.Series(values, name=name)
        assert time_source(column, describe(column)) is None
    for texts in (["A1-2", "B7-1"], ["12", "1234567"], ["2024", "2025"]):
        column = pd.Series(texts * 100, name=name)
        assert time_source(column, describe(column)) is None


def test_of_two_times_the_question_is_the_earlier_and_birthdays_are_neither() -> None:
    table = orders().assign(
        birth_date=pd.Timestamp("1980-05-05"), shipped_at=lambda t: t["ordered_at"] + pd.Timedelta(hours=2)
    )
    table.loc[3, "birth_date"] = pd.Timestamp("1981-01-01")
    for order in (list(table), list(table)[::-1]):
        assert guess_time(table[order], [describe(table[c]) for c in order]).columns == ("ordered_at",)


@pytest.mark.parametrize(
    ("values", "ones"),
    [
        ([0, 1, 1], [0, 1, 1]), ([-1, 1, 1], [0, 1, 1]), ([1, 2, 2], [0, 1, 1]), (["no", "Yes", "yes "], [0, 1, 1]),
        (["N", "Y", "Y"], [0, 1, 1]), (["f", "t", "t"], [0, 1, 1]), ([False, True, True], [0, 1, 1]),
        (["0", "1", "1"], [0, 1, 1]),
        (["not returned", "returned", "returned"], [0, 1, 1]), ([0.0, 1.0, None], [0, 1, np.nan]),
        ([False, True, None], [0, 1, np.nan]), (["no", "yes", ""], [0, 1, np.nan]),
    ],
)  # fmt: skip
def test_what_counts_as_one(values: list[object], ones: list[float]) -> None:
    table = pd.DataFrame({"y": values * 10})
    found = outcomes(table, label_source(table, describe(table["y"])))
    np.testing.assert_array_equal(found.to_numpy(), np.array(ones * 10))


def test_the_label_is_guessed_by_its_name_and_place() -> None:
    table = orders().assign(is_gift=lambda t: t["price"] > 50, member=lambda t: t["pieces"] > 4)
    described = [describe(table[c]) for c in table]
    assert guess_label(table, described, ()) == "returned"
    other = table.rename(columns={"returned": "zeta"})[["ordered_at", "member", "zeta"]]
    assert guess_label(other, [describe(other[c]) for c in other], ()) == "zeta"


def test_columns_that_come_with_the_label_are_named_and_left_out() -> None:
    rng, plain = np.random.default_rng(0), orders()
    known = np.arange(ROWS) % 6 > 0
    table = plain.assign(
        returned=plain["returned"].where(known),
        refund=(plain["price"] * plain["returned"]).round(2),
        reason=np.where(plain["returned"] == 1, "too small", None),
        checked_by=pd.Series(rng.choice(["a", "b", "c"], ROWS)).where(known),
    )
    declared = declare("x", table, Choices())
    assert "filled only where the label is known" in declared.left_out["checked_by"]
    assert "alone tells the label" in declared.left_out["refund"]
    assert "alone tells the label" in declared.left_out["reason"]
    assert {f.name for f in declared.request} == {"price", "pieces"}
    assert {"refund", "reason", "checked_by"} <= set(declared.only_after)
    kept = declare("x", table, Choices(request=("checked_by",)))
    assert "checked_by" in {f.name for f in kept.request}


def test_parts_of_the_number_that_the_label_was_cut_from_are_left_out() -> None:
    rng = np.random.default_rng(0)
    parts = {f"part_{i}": rng.gamma(2, 10, ROWS).round(2) for i in range(4)}
    table = orders().drop(columns="returned").assign(**parts, total=sum(parts.values()), like=lambda t: t["total"] ** 3)
    declared = declare("x", table, Choices(label="total", above=80))
    assert "goes up and down" in declared.left_out["like"] or "alone tells" in declared.left_out["like"]
    added = [c for c, why in declared.left_out.items() if "adds up" in why]
    assert added
    assert set(added) <= set(parts)
    two = orders().drop(columns="returned").assign(casual=parts["part_0"], members=parts["part_1"])
    two["riders"] = two["casual"] + two["members"]
    declared = declare("x", two, Choices(label="riders", above=40))
    assert {"casual", "members"} <= set(declared.left_out)


def test_every_name_becomes_an_identifier_of_its_own() -> None:
    names = [
        *RESERVED_NAMES,
        "Größe",
        "grosse",
        "GROSSE",
        "a b",
        "a-b",
        "a_b",
        "f__x",
        "class",
        "2nd",
        "价格",
        "_x",
        "x" * 99,
        "é",
    ]
    found = identifiers(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for name in found.values():
        assert name.isidentifier() and name == name.lower() and len(name) <= 62
        assert name not in RESERVED_NAMES and not name.startswith(("f__", "k__", "_"))
    assert found["a_b"] == "a_b" and found["grosse"] == "grosse"


@pytest.mark.parametrize("text", ["plain", "it's", 'a "b"', "'\"", "a\\b\n\t", "\x00\u200b", "größe"])
def test_literals_mean_what_they_quote(text: str) -> None:
    assert eval(quoted(text)) == text


def test_what_does_not_fit_on_a_line_gets_one_line_a_part() -> None:
    assert laid_out("f(", ["a", "b"], ")") == "f(a, b)"
    long = laid_out("f(", ["a" * 60, "b" * 60], ")", indent=4)
    assert max(map(len, long.splitlines())) < WIDTH and long.count("\n") == 3
