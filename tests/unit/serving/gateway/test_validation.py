from __future__ import annotations

from typing import Any

import pytest

from core.use_case import Field
from serving.gateway.problems import Fault
from serving.gateway.validation import Rejected, moment_us, read_records, record_rules, rule_for

WHOLE = Field(name="f", dtype="int")
REAL = Field(name="f", dtype="float")
TEXT = Field(name="f", dtype="str")


@pytest.mark.parametrize(
    ("field", "value", "clean"),
    [
        (WHOLE, 3, 3),
        (WHOLE, -(2**63), -(2**63)),
        (WHOLE, 2**63 - 1, 2**63 - 1),
        (Field(name="f", dtype="int", ge=1, le=2), 2, 2),
        (Field(name="f", dtype="int", nullable=True), None, None),
        (Field(name="f", dtype="int", nullable=True), -(2**53), -(2**53)),
        (REAL, 1.5, 1.5),
        (REAL, 3, 3.0),
        (REAL, -1e308, -1e308),
        (Field(name="f", dtype="float", ge=0), 0, 0.0),
        (TEXT, "x", "x"),
        (TEXT, "ü" * 256, "ü" * 256),
        (TEXT, "line\nbreak", "line\nbreak"),
        (Field(name="f", dtype="str", nullable=True), None, None),
    ],
)
def test_accepts_and_cleans(field: Field, value: object, clean: object) -> None:
    found = rule_for(field)(value)
    assert found == clean
    assert type(found) is type(clean)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (WHOLE, True),
        (WHOLE, 1.0),
        (WHOLE, "1"),
        (WHOLE, 2**63),
        (WHOLE, -(2**63) - 1),
        (WHOLE, None),
        (WHOLE, []),
        (Field(name="f", dtype="int", ge=0.5), 0),
        (Field(name="f", dtype="int", le=2.5), 3),
        (Field(name="f", dtype="int", nullable=True), 2**53 + 1),
        (REAL, False),
        (REAL, "1.5"),
        (REAL, float("nan")),
        (REAL, float("inf")),
        (REAL, {}),
        (Field(name="f", dtype="float", ge=0), -1e-9),
        (Field(name="f", dtype="float", le=1), 2),
        (TEXT, ""),
        (TEXT, "x" * 257),
        (TEXT, "a\x00b"),
        (TEXT, "\ud800"),
        (TEXT, 3),
    ],
)
def test_rejects(field: Field, value: object) -> None:
    with pytest.raises(Rejected) as caught:
        rule_for(field)(value)
    assert caught.value.detail.endswith(".")
    assert caught.value.remedy.startswith("Send ")


def test_records_are_complete_afterwards_and_every_fault_is_named() -> None:
    rules = record_rules((WHOLE, Field(name="g", dtype="str", nullable=True)))
    faults: list[Fault] = []
    assert rules.check({"f": 1}, "r", faults) == {"f": 1, "g": None}
    assert not faults
    assert rules.check({"g": 3, "h": 1}, "r[2]", faults) is None
    assert [fault.field for fault in faults] == ["r[2].f", "r[2].g", "r[2].h"]
    assert faults[0].detail == "Is missing."


def test_checking_changes_nothing_of_what_was_sent() -> None:
    record = {"f": 3}
    record_rules((REAL,)).check(record, "r", [])
    assert record == {"f": 3}
    assert type(record["f"]) is int


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "rows"),
        ({"rows": []}, "rows"),
        ({"rows": {}}, "rows"),
        ({"rows": None}, "rows"),
        ({"rows": [{}] * 4}, "rows"),
        ({"rows": [{}], "more": 1}, "more"),
        ({"rows": [3]}, "rows[0]"),
    ],
)
def test_the_array_itself_is_checked(document: dict[str, Any], field: str) -> None:
    _, faults = read_records(document, "rows", 3, record_rules(()).check)
    assert [fault.field for fault in faults] == [field]


def test_reading_stops_after_ten_faults() -> None:
    records, faults = read_records({"rows": [0] * 100}, "rows", 100, record_rules(()).check)
    assert len(faults) == 10
    assert len(records) == 10


@pytest.mark.parametrize("text", ["2019-02-02T12:00:00Z", "2019-02-02T12:00:00", "2019-02-02T13:00:00+01:00"])
def test_moments_are_utc(text: str) -> None:
    assert moment_us(text) == 1_549_108_800_000_000


@pytest.mark.parametrize(
    "value", ["", "soon", "2019-13-01", 1549108800, None, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
              "1969-12-31T23:59:59Z", "2019-02-02T12:00:00Z\x00", "٢٠١٩-٠٢-٠٢"]
)  # fmt: skip
def test_what_is_no_moment_is_rejected(value: object) -> None:
    with pytest.raises(Rejected):
        moment_us(value)
