"""Rehearsals on a stage of their own: how they are carried out, interrupted and judged."""

from __future__ import annotations

import os
import signal

import pytest

from core.errors import StackError
from stack.drill.drill import REHEARSALS, Plan, choose
from stack.drill.rehearsal import Interrupts
from stack.drill.switches import Switch


def test_an_interrupt_waits_until_what_was_before_is_back() -> None:
    said: list[str] = []
    interrupts, done = Interrupts(said.append), []
    with pytest.raises(KeyboardInterrupt), interrupts.caught(), interrupts.shielded():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("put back")
    assert done == ["put back"] and len(said) == 1


def test_an_interrupt_ends_what_is_not_shielded_and_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Interrupts(lambda _: None).caught():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_losses_come_before_switches_and_each_name_is_its_rehearsals() -> None:
    rehearsals = Plan("taxi_tip").rehearsals()
    assert [rehearsal.name for rehearsal in rehearsals] == list(REHEARSALS)
    kinds = [isinstance(rehearsal, Switch) for rehearsal in rehearsals]
    assert kinds == sorted(kinds), "a version that has just become champion would be held responsible for losses"
    assert [r.name for r in Plan("taxi_tip", ("rollback", "worker")).rehearsals()] == ["worker", "rollback"]


@pytest.mark.parametrize(
    ("named", "live", "problem"),
    [
        (None, {}, "No use case has a version"),
        (None, {"a": True, "b": True}, "Several use cases answer: a, b"),
        ("b", {"a": True}, "evergreen retrain b"),
    ],
)
def test_who_is_drilled_must_be_clear(named: str | None, live: dict[str, bool], problem: str) -> None:
    with pytest.raises(StackError, match=problem):
        choose(named, live)


def test_the_only_one_that_can_go_back_is_drilled() -> None:
    assert choose(None, {"a": False, "b": True}) == "b"
    assert choose(None, {"a": False}) == "a"
    assert choose("a", {"a": False, "b": True}) == "a"
