from __future__ import annotations

from serving.draining import Draining


def test_being_asked_again_starts_the_grace_anew() -> None:
    draining = Draining(grace_s=5)

    def drained(now_s: float, *busy: str) -> set[str]:
        return set(draining.look("toy", loaded={"1", "2"}, busy=set(busy), now_s=now_s))

    assert drained(0, "2") == set()
    assert drained(4, "1", "2") == set()
    assert drained(6, "2") == set()
    assert drained(10, "2") == set()
    assert drained(11, "2") == {"1"}


def test_a_version_that_was_let_go_and_comes_back_starts_anew() -> None:
    draining = Draining(grace_s=5)
    draining.look("toy", loaded={"1"}, busy=set(), now_s=0)
    draining.look("toy", loaded=set(), busy=set(), now_s=6)
    assert draining.look("toy", loaded={"1"}, busy=set(), now_s=7) == frozenset()


def test_use_cases_do_not_mix() -> None:
    draining = Draining(grace_s=5)
    draining.look("toy", loaded={"1"}, busy=set(), now_s=0)
    draining.look("other", loaded={"1"}, busy=set(), now_s=4)
    assert draining.look("toy", loaded={"1"}, busy=set(), now_s=5) == {"1"}
    assert draining.look("other", loaded={"1"}, busy=set(), now_s=5) == frozenset()
