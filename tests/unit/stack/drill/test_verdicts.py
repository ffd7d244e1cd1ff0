from __future__ import annotations

import pytest

from stack.drill.answers import Answer, Phase, Seen, first_from, summed_up
from stack.drill.report import as_json, is_passed, said
from stack.drill.verdicts import FAIL, PASS, SKIP, Expectation, Outcome, faults_of

SWITCH = [Phase(0, frozenset("1")), Phase(10, frozenset("12")), Phase(11, frozenset("2"))]


def answer(asked_s: float, version: str | None, *, took_s: float = 0.01, problem: str = "") -> Answer:
    return Answer(asked_s, asked_s + took_s, 200 if version else 503, version, problem)


def test_a_switch_may_be_seen_early_or_late_but_not_after_it_is_over() -> None:
    fine = [answer(9, "1"), answer(10.2, "2"), answer(10.9, "1"), answer(10.995, "1", took_s=0.5), answer(12, "2")]
    seen = summed_up(fine, SWITCH)
    assert not seen.wrong and seen.answers == {"1": 3, "2": 2}
    assert summed_up([answer(11.1, "1")], SWITCH).wrong == {"1": 1}
    assert summed_up([answer(5, "2")], SWITCH).wrong == {"2": 1}
    assert summed_up([answer(10.5, "3")], SWITCH).wrong == {"3": 1}


def test_errors_are_counted_by_problem_and_timed() -> None:
    seen = summed_up([answer(1, None, problem="503 away"), answer(3, None, problem="503 away"), answer(4, "1")], SWITCH)
    assert seen.errors == {"503 away": 2}
    assert seen.outage_s == pytest.approx(2.0)
    assert summed_up([answer(1, None)], SWITCH).errors == {"status 503": 1}
    assert summed_up([answer(1, "1", took_s=2.5)], SWITCH).slowest_s == pytest.approx(2.5)


def test_recovery_counts_to_the_first_answer_of_the_version_after_the_act() -> None:
    answers = [answer(1, "2"), answer(10.4, "2", took_s=0.1), answer(10.2, "1")]
    assert first_from(answers, "2", 10) == pytest.approx(0.5)
    assert first_from(answers, "3", 10) is None


def test_what_is_not_as_expected_is_said_with_its_numbers() -> None:
    good = summed_up([answer(1, "1")], SWITCH)
    assert list(faults_of(Expectation(within_s=2), 1.0, good)) == []
    assert list(faults_of(Expectation(within_s=2), 2.5, good)) == ["it took 2.5 s, 2 s are allowed"]
    assert list(faults_of(Expectation(within_s=2), None, good)) == ["it was not over after 2 s"]
    lost = summed_up([answer(1, None, problem="503 away"), answer(9, None, problem="503 away"), answer(9, "1")], SWITCH)
    assert list(faults_of(Expectation(within_s=2), 1.0, lost)) == ["2 of 3 client calls failed: 503 away"]
    tolerant = Expectation(within_s=2, errors=None, outage_s=5)
    assert list(faults_of(tolerant, 1.0, lost)) == ["clients got errors for 8.0 s, 5 s are allowed: 503 away"]
    assert list(faults_of(Expectation(within_s=2, errors=None, outage_s=9), 1.0, lost)) == []
    wrong = summed_up([answer(12, "1"), answer(12, "2")], SWITCH)
    assert list(faults_of(Expectation(within_s=2), 1.0, wrong)) == [
        "version 1 answered 1 calls that were not its to answer"
    ]


def test_a_drill_passes_if_something_was_rehearsed_and_nothing_failed() -> None:
    def outcome(name: str, verdict: str) -> Outcome:
        return Outcome(name, verdict, "", "", 1.25, Seen(), ("why",) if verdict != PASS else ())

    back = outcome("as before", PASS)
    assert is_passed([outcome("rollback", PASS), outcome("redis", SKIP), back])
    assert not is_passed([outcome("redis", SKIP), back])
    assert not is_passed([outcome("rollback", PASS), outcome("as before", FAIL)])
    failed = [outcome("rollback", PASS), outcome("worker", FAIL), outcome("redis", SKIP), back]
    assert not is_passed(failed)
    assert said(failed) == (
        "survived: rollback in 1.2 s, as before in 1.2 s; not survived: worker (why); skipped: redis"
    )
    assert [each["verdict"] for each in as_json(failed)] == [PASS, FAIL, SKIP, PASS]
    assert as_json(failed)[1]["faults"] == ["why"]
