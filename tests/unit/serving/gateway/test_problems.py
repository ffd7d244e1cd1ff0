from __future__ import annotations

import inspect

import orjson
import pytest

from core import errors
from serving.gateway import problems
from serving.gateway.problems import STATUS, Fault, InvalidFields, problem_for, shown

ALL = [
    kind
    for module in (errors, problems)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, errors.EvergreenError)
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_class_has_a_status_of_its_own(kind: type[errors.EvergreenError]) -> None:
    assert kind in STATUS
    if issubclass(kind, errors.RequestError):
        assert 400 <= STATUS[kind] < 500
    elif kind is problems.StreamFull:
        assert STATUS[kind] == 429, "the client is too fast: its part to mend"
    elif kind is errors.NotPermitted:
        assert STATUS[kind] == 409, "nothing failed: the caller has to do something else first"
    elif issubclass(kind, errors.Unavailable):
        assert STATUS[kind] == 503
    else:
        assert STATUS[kind] == 500


def test_a_class_the_map_lacks_counts_as_its_base() -> None:
    class Newer(errors.Overloaded):
        pass

    problem = problem_for(Newer("full"))
    assert problem.status == 503
    assert orjson.loads(problem.body)["title"] == "Overloaded"
    assert (b"retry-after", b"1") in problem.headers


def test_request_errors_name_field_and_remedy() -> None:
    document = orjson.loads(problem_for(errors.InvalidField("Is odd.", field="x[0].y", remedy="Send even.")).body)
    assert document == {
        "type": "urn:evergreen:problem:invalid-field",
        "title": "Invalid field",
        "status": 422,
        "detail": "Is odd.",
        "field": "x[0].y",
        "remedy": "Send even.",
    }


def test_many_faults_are_listed_up_to_ten() -> None:
    error = InvalidFields([Fault(f"f[{i}]", "bad", "fix") for i in range(12)])
    document = orjson.loads(problem_for(error).body)
    assert document["field"] == "f[0]"
    assert [fault["field"] for fault in document["errors"]] == [f"f[{i}]" for i in range(10)]


def test_faults_of_ours_tell_a_client_nothing_of_the_inside() -> None:
    assert b"postgres" not in problem_for(errors.LedgerError("postgres://user:secret@host")).body


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), ({}, "an object"), ([1], "an array"), (3, "3"), ("a", "'a'"), (1.5, "1.5")],
)
def test_values_are_quoted_shortly(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(shown("x" * 10_000)) < 70
