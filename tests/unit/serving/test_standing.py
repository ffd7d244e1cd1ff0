from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.clock import ManualClock
from core.decision import Decision
from core.ledger import Ledger
from serving.routing import Share
from serving.standing import read_standing

START = datetime(2026, 1, 1, tzinfo=UTC)


class Book:
    """A ledger whose clock goes on by a minute with every entry."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.ledger = Ledger("sqlite://", self.clock)
        self.ledger.migrate()

    def write(self, action: str, version: str, **evidence: object) -> None:
        decision = Decision(action, "because", evidence)
        self.ledger.record("toy", "deployment", decision, actor="deployer", as_of=START, version=version)
        self.clock.advance(timedelta(minutes=1))

    def deploy(self, *versions: str) -> None:
        for version in versions:
            live = self.ledger.live("toy")
            generation, previous = (live.generation, live.version) if live else (0, None)
            self.ledger.deploy(
                "toy", expected_generation=generation, version=version, previous=previous, actor="deployer",
                reason="alias", as_of=START,
            )  # fmt: skip
            self.clock.advance(timedelta(minutes=1))

    def since(self, role: str) -> datetime | None:
        return read_standing(self.ledger, "toy").baking_since(role, self.ledger.deployments("toy"))


@pytest.fixture
def book() -> Iterator[Book]:
    book = Book()
    yield book
    book.ledger.close()


def test_shares_are_what_was_last_written(book: Book) -> None:
    book.write("canary", "8", role="canary", percent=10)
    book.write("shadow", "9", role="shadow", percent=100)
    book.write("refuse", "4", error="DeploymentError")
    book.write("canary", "8", role="canary", percent=20)
    found = read_standing(book.ledger, "toy")
    assert (found.share("canary"), found.share("shadow")) == (Share("8", 20), Share("9", 100))
    assert book.since("canary") == START + timedelta(minutes=3), "a larger share is another bake"
    book.write("end", "9", role="shadow")
    book.write("pass", "8", role="canary", generation=1)
    assert read_standing(book.ledger, "toy").share("shadow") is None
    assert book.since("canary") is None


def test_what_was_taken_back_is_barred_until_it_is_released(book: Book) -> None:
    book.write("canary", "8", role="canary", percent=10)
    book.write("rollback", "8", role="canary")
    found = read_standing(book.ledger, "toy")
    assert (found.parts, found.barred) == ({}, {"canary": "8"})
    book.write("release", "8", role="canary")
    assert read_standing(book.ledger, "toy").barred == {}


def test_a_champion_is_watched_when_it_is_newer_than_the_one_before(book: Book) -> None:
    book.deploy("1")
    assert book.since("champion") is None, "there is nothing to go back to"
    book.deploy("2")
    assert book.since("champion") == START + timedelta(minutes=1)
    book.write("rollback", "2", role="champion")
    assert book.since("champion") is None
    book.deploy("1")
    assert book.since("champion") is None, "it had served before the other"
    book.deploy("2")
    book.write("release", "2", role="champion")
    assert book.since("champion") is not None, "a new try is watched too"
    book.write("pass", "2", role="champion", generation=4)
    assert book.since("champion") is None
