"""Codes are told apart by value and quantities by size, whatever their numbers look like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from core.use_case import Field
from registry.segments import segment_columns, segment_masks
from tests.sample_use_case import sample_use_case

ZONES = np.repeat(np.arange(1, 101), 3)
REQUESTS = pd.DataFrame({"zone": ZONES, "amount": ZONES.astype(np.float64)})
MATRIX = np.c_[ZONES, ZONES].astype(np.float32)


def test_entities_and_categorical_columns_are_never_cut_at_quartiles() -> None:
    zone, amount = Field(name="zone", dtype="int"), Field(name="amount", dtype="float")
    declared = replace(sample_use_case(), entities=(zone,), request=(amount,), categorical=("zone_code",))

    values = segment_columns(
        declared, ("zone", "amount", "zone_code", "absent"), REQUESTS, MATRIX, ("zone_code", "miles")
    )
    masks = segment_masks(values)

    assert list(values) == ["zone", "amount", "zone_code"]
    for name in ("zone", "zone_code"):
        assert f"{name}=1" in masks, "named after the value, as the drift of the same segment is"
        assert {int(mask.sum()) for part, mask in masks.items() if part.startswith(f"{name}=")} == {3}
    assert [int(mask.sum()) for part, mask in masks.items() if part.startswith("amount in")] == [75, 75, 75, 75]
    assert declared.codes == ("zone_code", "zone")
