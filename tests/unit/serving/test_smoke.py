from __future__ import annotations

from typing import Any

import pytest

from serving.smoke import smoke_fault, smoke_request


def test_recorded_times_are_asked_about_and_nothing_is_logged() -> None:
    recorded = {"instances": [{}, {}], "at": ["2019-02-02T00:00:00+00:00", 5]}
    assert smoke_request(recorded) == {"instances": [{}, {}], "at_us": [1_549_065_600_000_000, 5], "log": False}
    assert "at_us" not in smoke_request({"instances": [{}]})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"predictions": [0.0, 1.0], "model_version": "7"}, None),
        ({"predictions": [0.5, 0.5], "model_version": "6"}, "'6' answered in its place"),
        ({"predictions": [0.5], "model_version": "7"}, "1 scores for 2"),
        ({"model_version": "7"}, "no scores for 2"),
        ({"predictions": [0.5, None], "model_version": "7"}, "score 1 is None"),
        ({"predictions": [0.5, float("nan")], "model_version": "7"}, "score 1 is nan"),
        ({"predictions": [-0.1, 0.5], "model_version": "7"}, "score 0 is -0.1"),
    ],
)
def test_only_probabilities_of_the_right_version_pass(answer: dict[str, Any], said: str | None) -> None:
    fault = smoke_fault(answer, version="7", n=2)
    assert fault is None if said is None else said in str(fault)
