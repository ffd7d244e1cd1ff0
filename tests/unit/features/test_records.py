"""What was acknowledged is written, also when the declaration has changed since."""

from __future__ import annotations

import dataclasses

import numpy as np

from core.use_case import Field
from features.definitions import BatchView, view_digest
from features.records import log_tables, prediction_tables
from features.streams import Entry, encode_batch, encode_events, encode_predictions
from tests.sample_use_case import sample_use_case


def entry(fields: dict[str, object]) -> Entry:
    """As Redis returns it."""
    packed = {k.encode(): v if isinstance(v, bytes) else str(v).encode() for k, v in fields.items()}
    return b"1-0", packed


def prediction(instance: dict[str, object]) -> Entry:
    fields = encode_predictions(
        use_case="sample", version="1", watermark=0, now_us=0, ids=["p1"], at_us=np.zeros(1, np.int64), degraded=[[]],
        matrix=np.ones((1, 2), np.float32), scores=np.ones(1, np.float32), instances=[instance], columns=("a", "b"),
    )  # fmt: skip
    return entry(fields)


def test_a_field_that_became_required_is_null_in_older_predictions() -> None:
    use_case = sample_use_case()
    stricter = dataclasses.replace(use_case, request=(*use_case.request, Field(name="till", dtype="int")))
    table = prediction_tables([prediction({"shop": "a", "amount": 1.0})], {"sample": stricter})["predictions/sample"]
    assert np.isnan(table["till"][0])
    assert table["f__b"][0] == 1


def test_what_is_no_longer_declared_is_kept() -> None:
    instance = {"shop": "a", "amount": 1.5}
    assert prediction_tables([prediction(instance)], {})["predictions/sample"]["amount"].tolist() == [1.5]
    event = {"id": "e1", "at_us": 0, "shop": "a", "amount": 2.5}
    assert log_tables([entry(encode_events("sales", [event], 0))], {})["events/sales"]["amount"].tolist() == [2.5]
    batch = encode_batch("gone/view@1", ("mean", "n"), {"a": [0.5, 2.0]}, as_of_us=0, known_at_us=0)
    assert log_tables([entry(batch)], {})["batch/gone/view@1"]["n"].tolist() == [2.0]


def test_a_batch_view_that_computes_something_else_is_another_view() -> None:
    (view,) = (v for v in sample_use_case().features.views if isinstance(v, BatchView))  # type: ignore[attr-defined]
    changed = dataclasses.replace(view, compute=lambda events, as_of: events)
    assert view_digest(view) != view_digest(changed)
    assert view_digest(view) == view_digest(dataclasses.replace(view))
