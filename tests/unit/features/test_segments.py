"""Codes are told apart by value and quantities by size, whatever their numbers look like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from core.policy import Policy
from core.use_case import Field
from features.segments import Cut, cuts_named, segment_values
from tests.sample_use_case import sample_use_case

ZONES = np.repeat(np.arange(1, 101), 3)
REQUESTS = pd.DataFrame({"zone": ZONES, "amount": ZONES.astype(np.float64)})
FEATURES = pd.DataFrame({"zone_code": ZONES, "miles": ZONES}, dtype=np.float32)
POLICY = Policy(segments=("zone", "amount", "zone_code", "absent"))


def test_entities_and_categorical_columns_are_never_cut_at_quartiles() -> None:
    zone, amount = Field(name="zone", dtype="int"), Field(name="amount", dtype="float")
    declared = replace(
        sample_use_case(), entities=(zone,), request=(amount,), categorical=("zone_code",), policy=POLICY
    )  # fmt: skip

    values = segment_values(declared, REQUESTS, FEATURES)
    cuts = {name: Cut.of(name, found) for name, found in values.items()}

    assert list(values) == ["zone", "amount", "zone_code"]
    for name in ("zone", "zone_code"):
        assert f"{name}=1" in cuts[name].names
        assert {int(mask.sum()) for _, mask in cuts[name].masks(values[name])} == {3}
        assert len(cuts[name].names) == 8
    assert [int(mask.sum()) for _, mask in cuts["amount"].masks(values["amount"])] == [75, 75, 75, 75]
    assert cuts["amount"].names == ("amount<25.75", "25.75<=amount<50.5", "50.5<=amount<75.25", "75.25<=amount")


def test_a_code_is_the_same_in_a_request_and_as_a_feature() -> None:
    cut = Cut.of("vendor", np.array([1, 2, 2]).astype(object))

    for values in (np.array([2.0, np.nan, 7.0]), np.array([2, None, 7], dtype=object), np.float32([2, np.nan, 7])):
        assert cut.members(values).tolist() == [0, -1, -1]


def test_rows_without_a_value_are_in_no_segment() -> None:
    cut = Cut("fare", edges=(5.0, 9.0))

    assert cut.members(np.array([1.0, 5.0, 8.9, 9.0, np.nan])).tolist() == [0, 1, 1, 2, -1]
    assert cut.members(np.array([1.0, None], dtype=object)).tolist() == [0, -1]


def test_small_codes_are_no_segments() -> None:
    assert Cut.of("shop", np.array(["a"] * 9 + ["b"]), fewest=5).names == ("shop=a",)


def test_cuts_of_earlier_releases_are_told_from_the_names() -> None:
    assert cuts_named(["shop=a=b", "zone=1", "shop=c"]) == (
        Cut("shop", categories=("a=b", "c")), Cut("zone", categories=("1",)),
    )  # fmt: skip
