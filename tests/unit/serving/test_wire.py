from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from core.errors import RequestError
from core.use_case import Field
from serving.torchserve.wire import answer, find_fault, parse, require_fields

FIELDS = (
    Field(name="zone", dtype="int"),
    Field(name="fare", dtype="float", nullable=True),
    Field(name="vendor", dtype="str"),
)
ROW = {"zone": 1, "fare": 2.5, "vendor": "a"}


def test_absent_times_are_now() -> None:
    question = parse(b'{"instances":[{"zone":1},{"zone":2}]}', clock_us=7)
    assert question.at_us.tolist() == [7, 7] and question.at_us.dtype == np.int64
    assert (question.now_us, question.prediction_ids, question.log) == (7, None, True)


def test_a_complete_call_is_read_as_it_stands() -> None:
    call = {"instances": [ROW], "at_us": [5], "now_us": 6, "prediction_ids": ["x"], "log": False}
    for body in (call, json.dumps(call), bytearray(json.dumps(call).encode())):
        question = parse(body, clock_us=7)
        assert question.at_us.tolist() == [5]
        assert (question.now_us, question.prediction_ids, question.log) == (6, ["x"], False)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (None, "The body is None"),
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"instances":[{"fare":NaN}]}', "not JSON"),
        ([], "a list of 0"),
        ({}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": {}}, "instances"),
        ({"instances": [ROW, 1]}, "instances"),
        ({"instances": [ROW], "at_us": [1, 2]}, "at_us"),
        ({"instances": [ROW], "at_us": 1}, "at_us"),
        ({"instances": [ROW], "at_us": [1.5]}, "at_us[0]"),
        ({"instances": [ROW], "at_us": [True]}, "at_us[0]"),
        ({"instances": [ROW], "at_us": [-1]}, "at_us[0]"),
        ({"instances": [ROW], "at_us": [2**63]}, "at_us[0]"),
        ({"instances": [ROW], "now_us": "now"}, "now_us"),
        ({"instances": [ROW], "prediction_ids": ["a", "b"]}, "prediction_ids"),
        ({"instances": [ROW], "prediction_ids": [1]}, "prediction_ids"),
        ({"instances": [ROW], "log": 1}, "log"),
    ],
)
def test_a_malformed_call_is_refused_by_name(body: Any, named: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(body, clock_us=7)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"zone": "1"}, "instances[1].zone: This is '1'. Send a whole number."),
        ({"zone": True}, "instances[1].zone"),
        ({"zone": 2**63}, "instances[1].zone"),
        ({"fare": "x"}, "instances[1].fare: This is 'x'. Send a finite number or null."),
        ({"vendor": 3}, "instances[1].vendor"),
        ({"vendor": ["a"] * 9}, "instances[1].vendor: This is a list of 9. Send a string."),
    ],
)
def test_the_first_wrong_value_is_found(change: dict[str, Any], named: str) -> None:
    assert named in str(find_fault(FIELDS, [ROW, ROW | change]))


def test_right_values_have_no_fault() -> None:
    assert find_fault(FIELDS, [ROW, ROW | {"fare": None}, ROW | {"fare": 3}]) is None


def test_a_missing_value_is_named() -> None:
    require_fields([FIELDS[0]], [ROW])
    with pytest.raises(RequestError, match=r"instances\[1\]\.zone: It is missing"):
        require_fields([FIELDS[0]], [ROW, {"fare": 1.0}])


def test_scores_are_answered_exactly_and_those_that_are_none_as_null() -> None:
    scores = np.array([0.1, np.nan], dtype=np.float32)
    reply = json.loads(answer(scores=scores, ids=["a", "b"], degraded=[[], ["x"]], version="7"))
    assert reply == {
        "predictions": [float(np.float32(0.1)), None],
        "prediction_ids": ["a", "b"],
        "degraded": [[], ["x"]],
        "model_version": "7",
    }
