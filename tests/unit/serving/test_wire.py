from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import RequestError
from core.use_case import Field
from features.online.instances import Instances
from serving.torchserve.wire import answer, find_fault, parse, require_fields, together

FIELDS = (
    Field(name="zone", dtype="int"),
    Field(name="fare", dtype="float", nullable=True),
    Field(name="vendor", dtype="str"),
)
ROW = {"zone": 1, "fare": 2.5, "vendor": "a"}


def test_absent_times_are_now() -> None:
    question = parse(b'{"instances":[{"zone":1},{"zone":2}]}', clock_us=7)
    assert question.at_us.tolist() == [7, 7] and question.at_us.dtype == np.int64
    assert (question.now_us, question.ids, question.logged, question.until_us) == (7, (), None, None)


def test_a_complete_call_is_read_as_it_stands() -> None:
    call = {"instances": [ROW], "at_us": [5], "now_us": 6, "log": False, "role": "shadow"}
    for body in (call, json.dumps(call), bytearray(json.dumps(call).encode())):
        question = parse(body, clock_us=7)
        assert question.at_us.tolist() == [5]
        assert (question.now_us, question.role) == (6, "shadow")
        assert question.logged is not None and not question.logged.any()


def test_the_calls_of_a_gateway_share_what_they_share() -> None:
    calls = [[2, 5, "a", {"zone": 1}, True], [1, [6], "b", None, False]]
    rows = [{"vendor": "x"}, {"vendor": "y"}, {"vendor": "z", "zone": 9}]
    question = parse({"instances": rows, "calls": calls, "now_us": 7, "until_us": 8}, clock_us=0)
    assert question.instances.column("zone") == [1, 1, 9]
    assert question.at_us.tolist() == [5, 5, 6]
    assert question.prediction_ids() == ["a0000", "a0001", "b0000"]
    assert question.logged is not None and question.logged.tolist() == [True, True, False]
    assert question.until_us == 8


def test_calls_of_clients_are_joined_in_order() -> None:
    first = replace(parse({"instances": [ROW, ROW], "at_us": [1, 2]}, clock_us=7), ids=[(2, "a")])
    second = replace(parse({"instances": [ROW], "at_us": [3], "log": False}, clock_us=9), ids=[(1, "b")])
    whole = together([first, second])
    assert whole.at_us.tolist() == [1, 2, 3] and whole.now_us == 9
    assert whole.prediction_ids() == ["a0000", "a0001", "b0000"]
    assert whole.logged is not None and whole.logged.tolist() == [True, True, False]


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
        ({"instances": [ROW] * 65_536}, "at most 65535"),
        ({"instances": [ROW], "role": "spy"}, "role"),
        ({"instances": [ROW], "calls": [[2, 5, "a", None, True]]}, "calls"),
        ({"instances": [ROW], "calls": [[1, "x", "a", None, True]]}, "calls"),
        ({"instances": [ROW], "calls": 1}, "calls"),
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
    assert named in str(find_fault(FIELDS, Instances([ROW, ROW | change])))


def test_right_values_have_no_fault() -> None:
    assert find_fault(FIELDS, Instances([ROW, ROW | {"fare": None}, ROW | {"fare": 3}])) is None


def test_a_missing_value_is_named() -> None:
    require_fields([FIELDS[0]], Instances([ROW]))
    with pytest.raises(RequestError, match=r"instances\[1\]\.zone: It is missing"):
        require_fields([FIELDS[0]], Instances([ROW, {"fare": 1.0}]))


def test_scores_are_answered_exactly_and_those_that_are_none_as_null() -> None:
    scores = np.array([1 / 3, np.nan], dtype=np.float32)
    reply = json.loads(answer(scores=scores, ids=["a", "b"], degraded=[[], ["x"]], version="7", logged="stream"))
    assert np.float32(reply.pop("predictions")[0]) == scores[0]
    assert reply == {
        "prediction_ids": ["a", "b"],
        "degraded": [{"instance": 1, "reasons": ["x"]}],
        "model_version": "7",
        "timing": [0.0, 0.0, 0.0],
        "logged": "stream",
    }
    assert json.loads(answer(scores=scores, degraded=[[], []], version="7"))["predictions"][1] is None
