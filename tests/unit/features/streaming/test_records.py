"""What was acknowledged is written, also when the declaration has changed since."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from core.use_case import EventSource, Field, UseCase
from features.streaming.declared import Declared
from features.streaming.entries import LogEntry, decode, fitted, key_column, log_entry
from features.streaming.records import label_tables, log_tables, prediction_tables
from features.streams import Entry, Place, encode_events, encode_labels, encode_predictions
from tests.sample_use_case import AMOUNT, SHOP, sample_use_case

HOUR = 3_600_000_000
NOW = 500_000 * HOUR
POSITION = 7 << 20


def entry(fields: Mapping[str, object]) -> Entry:
    """As Redis returns it."""
    packed = {k.encode(): v if isinstance(v, bytes) else str(v).encode() for k, v in fields.items()}
    return b"7-0", packed


def logged(rows: Sequence[Mapping[str, Any]], by: str = "shop", is_first: bool = True) -> LogEntry:
    return log_entry(entry(encode_events("sales", Place(0, by, is_first), rows, NOW)))


def sale(number: int, **other: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "at_us": NOW, "shop": "a", "amount": 2.5} | other


def declared(*use_cases: UseCase) -> Declared:
    return Declared.of(use_cases)


def prediction(instance: dict[str, object], known: Sequence[int] = (5,), role: str = "answer") -> Entry:
    fields = encode_predictions(
        use_case="sample", version="1", now_us=0, ids=["p1"], at_us=np.zeros(1, np.int64), degraded=[["x"]],
        known=np.array([known], dtype=np.int64), known_views=[f"recent@{i}" for i in range(len(known))],
        matrix=np.ones((1, 2), np.float32), scores=np.ones(1, np.float32), instances=[instance], columns=("a", "b"),
        role=role,
    )  # fmt: skip
    return entry(fields)


def test_events_go_to_their_tables_without_duplicates() -> None:
    rows = [sale(0), sale(1, at_us=NOW - 4 * HOUR), sale(2), sale(3)]
    dropped = {"7-0": np.array([2], dtype="<u4").tobytes()}
    tables = log_tables([logged(rows)], declared(sample_use_case()), dropped)
    assert tables["events/sales"]["id"].tolist() == ["e0", "e3"]
    assert tables["events/sales"]["row"].tolist() == [0, 3]
    assert tables["events/sales"]["position"].tolist() == [POSITION] * 2
    assert tables["events/sales"]["by"].tolist() == ["shop"] * 2
    assert tables["late/sales"]["id"].tolist() == ["e1"]
    copies = [
        logged([*rows, sale(4, amount="much")], is_first=False),
        LogEntry(POSITION, b"events", "sales", "", False),
    ]
    assert set(log_tables(copies, declared(sample_use_case()), {})) == {"copies/sales"}, (
        "late and unfit ones stand once"
    )


def test_nothing_is_late_for_a_source_without_windows() -> None:
    tables = log_tables([logged([sale(0, at_us=0)], by="")], declared(), {})
    assert list(tables) == ["events/sales"]


def test_a_field_that_became_required_is_null_in_older_rows() -> None:
    till = Field(name="till", dtype="int")
    use_case = sample_use_case()
    stricter = dataclasses.replace(
        use_case, request=(*use_case.request, till), sources=(EventSource(name="sales", fields=(SHOP, AMOUNT, till)),)
    )
    table = prediction_tables([prediction({"shop": "a", "amount": 1.0})], {"sample": stricter})["predictions/sample"]
    assert np.isnan(table["till"][0])
    assert table["f__b"][0] == 1
    events = log_tables([logged([sale(1)])], declared(stricter), {})["events/sales"]
    assert np.isnan(events["till"][0])


def test_what_is_no_longer_declared_is_kept() -> None:
    instance = {"shop": "a", "amount": 1.5}
    assert prediction_tables([prediction(instance)], {})["predictions/sample"]["amount"].tolist() == [1.5]
    rows = [sale(1, flag=True, note=None, n=1), sale(2, flag={"a": 1}, note="x", n=2)]
    table = log_tables([logged(rows)], declared(), {})["events/sales"]
    assert table["amount"].tolist() == [2.5, 2.5]
    assert table["flag"].tolist() == ["true", '{"a":1}']
    assert table["note"].tolist() == ["", "x"]
    assert table["n"].tolist() == [1, 2]


@pytest.mark.parametrize("amount", ["much", [1], {"a": 1}])
def test_what_fits_no_declaration_is_kept_as_json(amount: object) -> None:
    tables = log_tables([logged([sale(1), sale(2, amount=amount)])], declared(sample_use_case()), {})
    assert tables["events/sales"]["id"].tolist() == ["e1"]
    assert tables["late/sales@unfit"]["id"].tolist() == ["e2"]
    assert '"shop":"a"' in tables["late/sales@unfit"]["data"].tolist()[0]


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"id":["a"]}', b'{"id":["a"],"at_us":["x"]}', b'{"id":["a"],"at_us":[1,2]}']
)
def test_an_entry_that_cannot_be_read_is_kept(data: bytes) -> None:
    broken = LogEntry(POSITION, b"events", "sales", "", True, NOW, data)
    table = log_tables([broken, logged([sale(1)])], declared(sample_use_case()), {})["late/sales@unfit"]
    assert table["data"].tolist() == [data.decode()]


def test_what_was_known_stays_exact_beside_older_records() -> None:
    large = 2**60 + 1
    tables = prediction_tables([prediction({"shop": "a"}, [large]), prediction({"shop": "a"}, [1, 2])], {})
    table = tables["predictions/sample"]
    assert table["k__recent@0"].tolist() == [large, 1]
    assert table["k__recent@1"].tolist() == [-1, 2]
    assert table["degraded"].tolist() == [True, True]


def test_predictions_keep_their_role_and_older_records_are_answers() -> None:
    entry_id, older = prediction({"shop": "a"})
    meta = orjson.loads(older[b"meta"])
    del meta["role"]
    older[b"meta"] = orjson.dumps(meta)
    table = prediction_tables([(entry_id, older), prediction({"shop": "a"}, role="shadow")], {})["predictions/sample"]
    assert table["role"].tolist() == ["answer", "shadow"]


def test_labels_carry_their_moments() -> None:
    fields = encode_labels("sample", [{"prediction_id": "p1", "label": 1, "at_us": NOW}], NOW)
    table = label_tables([entry(fields)], {})["labels/sample"]
    assert table["label"].tolist() == [1]
    assert table["position"].tolist() == [POSITION]
    assert table["at"][0] == table["known_at"][0]


def test_keys_stay_exact_beyond_what_a_float_can_hold() -> None:
    number = Field(name="shop", dtype="int", nullable=True)
    found, _ = decode([logged([sale(1, shop=2**53 + 1), sale(2, shop=None), sale(3, shop=2), sale(4, shop=0.0)])])
    columns, fits = fitted(found["sales"], [number])
    assert fits.all()
    keys = key_column(found["sales"], columns["shop"], "shop").tolist()
    assert keys == [2**53 + 1, None, 2, 0]
    assert type(keys[3]) is int
