"""A version that was taken back is tried again once somebody names it anew, also if nobody saw its alias leave."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.decision import Decision
from core.errors import DependencyDown, DeploymentError
from registry.versions import Desired, MemoryRegistry
from serving.deployer import Deployer
from serving.permission import Rules
from serving.promoting import Promotions
from serving.routing import Route
from serving.standing import KIND, read_standing
from tests.deployer_bench import NOW, Bench


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], Bench]:
    """Makes one in which version 2 answers, 1 did before, and 3 may."""
    number = itertools.count()

    def make() -> Bench:
        folder = tmp_path / f"{next(number)}"
        folder.mkdir()
        bench = Bench(folder)
        versions = [bench.version(bias=bias) for bias in (0.0, 0.1, 0.2)]
        for version in versions[:2]:
            bench.champion(version)
            bench.deployer.poll()
        return bench

    return make


@pytest.fixture
def bench(made: Callable[[], Bench]) -> Iterator[Bench]:
    bench = made()
    yield bench
    bench.ledger.close()


def roll_back(bench: Bench, registry: MemoryRegistry | None = None) -> None:
    Promotions(registry or bench.registry, bench.ledger, bench.clock).rollback("toy", actor="ops", reason="complaints")


def now_and_then(bench: Bench) -> Deployer:
    """A deployer that goes on with what the registry said at first."""
    deployer = bench.restarted_with(Rules(), registry_poll_s=60.0)
    deployer.poll()
    return deployer


def agree(bench: Bench, version: str) -> bool:
    live = bench.ledger.live("toy")
    answers = bench.routes.routes()["toy"].version
    return live is not None and live.version == answers == bench.registry.alias("toy", "champion") == version


def test_the_alias_leaves_and_comes_back_between_two_looks(bench: Bench) -> None:
    roll_back(bench)
    bench.champion("2")
    for _ in range(3):
        bench.deployer.poll()
    assert agree(bench, "2") and read_standing(bench.ledger, "toy").barred == {}
    assert bench.routes.routes()["toy"] == Route("2", 2), "it has answered all the time"


def test_it_does_so_after_the_deployer_went_back(bench: Bench) -> None:
    deployer = now_and_then(bench)
    roll_back(bench)
    deployer.poll()
    assert bench.routes.routes()["toy"] == Route("1", 3), (
        "the alias was on 2 when it looked last: that names nobody anew"
    )
    bench.champion("2")
    deployer.poll()
    assert bench.registry.alias("toy", "champion") == "2", "it is looked at before it is taken away"
    deployer.poll()
    deployer.poll()
    assert bench.routes.routes()["toy"] == Route("2", 4) and agree(bench, "2")


def test_it_does_so_after_the_deployer_moved_the_alias(bench: Bench) -> None:
    taken = Decision("rollback", "worse on 2000 labels", {"role": "champion", "generation": 2})
    bench.ledger.record("toy", KIND, taken, actor="flow monitor", as_of=NOW, version="2")
    bench.deployer.poll()
    bench.deployer.poll()
    assert agree(bench, "1"), "the deployer has moved it"
    bench.champion("2")
    bench.deployer.poll()
    bench.deployer.poll()
    assert agree(bench, "2")


def test_it_is_asked_for_by_name_while_the_registry_is_away(bench: Bench) -> None:
    class Away(MemoryRegistry):
        def set_alias(self, *_: object, **__: object) -> None:
            raise DependencyDown("MLflow", "connection refused")

    away = Away(bench.folder)
    roll_back(bench, away)
    with pytest.raises(DependencyDown):
        Promotions(away, bench.ledger, bench.clock).promote("toy", "2", actor="ops", reason="it was the feed")
    bench.pass_time(minutes=1)
    for _ in range(3):
        bench.deployer.poll()
    assert agree(bench, "2")


def test_an_older_request_names_nobody_anew(bench: Bench) -> None:
    Promotions(bench.registry, bench.ledger, bench.clock).promote("toy", "2", actor="ops", reason="better")
    taken = Decision("rollback", "worse on 2000 labels", {"role": "champion", "generation": 2})
    bench.ledger.record("toy", KIND, taken, actor="flow monitor", as_of=NOW, version="2")
    for _ in range(3):
        bench.deployer.poll()
    assert agree(bench, "1")


class Between:
    """A registry in which something happens as soon as the deployer has read it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.next: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> object:
        return getattr(self._bench.registry, name)

    def desired(self) -> Mapping[str, Desired]:
        found = self._bench.registry.desired()
        happens, self.next = self.next, lambda: None
        happens()
        return found


def act(bench: Bench, deed: str) -> None:
    """What a person does: ``back`` is a rollback, a number a move in MLflow."""
    if deed != "back":
        bench.champion(deed)
        return
    with suppress(DeploymentError):  # nothing to go back to
        roll_back(bench)


deeds = st.sampled_from(["back", "1", "2", "3"])


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(deeds, max_size=3), st.none() | deeds, st.booleans()), max_size=8), deeds)
def test_all_agree_in_the_end_and_the_last_move_stands(
    made: Callable[[], Bench], rounds: list[tuple[list[str], str | None, bool]], last: str
) -> None:
    bench = made()
    registry = Between(bench)
    deployer = bench.restarted_with(Rules(), registry=registry, registry_poll_s=60.0)
    for before, meanwhile, is_woken in rounds:
        for deed in before:
            act(bench, deed)
        if is_woken:
            deployer._intent.look_soon()
        if meanwhile is not None:
            registry.next = partial(act, bench, meanwhile)
        deployer.poll()
    registry.next = lambda: None
    act(bench, last)
    for _ in range(4):
        deployer._intent.look_soon()
        deployer.poll()
    alias = bench.registry.alias("toy", "champion")
    assert alias is not None and agree(bench, alias)
    assert last in ("back", alias), "what a person said last stands"
    assert read_standing(bench.ledger, "toy").barred == {}
    bench.ledger.close()
