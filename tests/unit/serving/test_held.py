"""The deployer keeps to the rules of promotion, whoever moved the alias, and serving goes on meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.decision import Decision
from core.errors import DependencyDown
from registry.versions import Desired, MemoryRegistry
from serving.permission import KIND, Rules, held
from serving.promoting import Promotions
from serving.routing import Route
from tests.deployer_bench import Bench, pass_gate


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.champion(bench.version())
    bench.deployer.poll()
    yield bench
    bench.ledger.close()


def promotions(bench: Bench, **rules: bool) -> Promotions:
    return Promotions(bench.stations.registry, bench.ledger, bench.clock, Rules(**rules))


def told(bench: Bench) -> list[tuple[str, str | None]]:
    return [(e.action, e.version) for e in reversed(bench.ledger.entries("toy", kind=KIND))]


def test_an_alias_moved_to_an_ungated_version_is_refused_once_and_says_how_to_go_on(bench: Bench) -> None:
    bench.champion(bench.version(bias=0.1, passed=False))
    for _ in range(3):
        bench.deployer.poll()
    bench.restarted().poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)}
    (entry,) = bench.ledger.entries("toy", kind=KIND)
    assert (entry.action, entry.version, entry.actor) == ("refuse", "2", "deployer")
    assert "it has passed no gate. Go on with: evergreen promote toy 2 --force" in entry.reason
    assert bench.registry.alias("toy", "champion") == "2", "what a person put there stays"


def test_the_tag_in_mlflow_forces_a_version(bench: Bench) -> None:
    version = bench.version(bias=0.1, passed=False)
    bench.champion(version)
    bench.deployer.poll()
    bench.registry.tag("toy", version, forced="the labels are late")
    bench.deployer.poll()
    assert bench.routes.routes() == {"toy": Route("2", 2)}
    live = bench.ledger.live("toy")
    assert live is not None and live.actor == "MLflow" and live.previous == "1"
    assert held(bench.ledger.entries("toy", kind=KIND), live) is None


def test_a_gate_that_passes_later_lets_it_in(bench: Bench) -> None:
    version = bench.version(bias=0.1, passed=False)
    digest = bench.registry.info("toy", version).digest
    bench.champion(version)
    pass_gate(bench.ledger, "toy", version, digest, action="keep")
    bench.deployer.poll()
    assert "the gate said keep" in bench.ledger.entries("toy", kind=KIND)[0].reason
    pass_gate(bench.ledger, "toy", version, digest)
    bench.deployer.poll()
    assert bench.routes.routes()["toy"].version == version


def test_an_alias_that_leaves_what_was_held_withdraws_it(bench: Bench) -> None:
    bench.champion(bench.version(bias=0.1, passed=False))
    bench.deployer.poll()
    bench.champion("1")
    for _ in range(2):
        bench.deployer.poll()
    assert told(bench) == [("refuse", "2"), ("withdraw", "2")]
    bench.champion("2")
    bench.deployer.poll()
    assert told(bench)[-1] == ("refuse", "2")


def test_two_people_stand_for_a_version_and_the_ledger_names_who_asked(bench: Bench) -> None:
    bench.restarted_with(Rules(second_person=True))
    asked = promotions(bench, second_person=True)
    version = bench.version(bias=0.1)
    asked.promote("toy", version, actor="ops (evergreen)", reason="better on shops")
    bench.deployer.poll()
    assert bench.routes.routes()["toy"].version == "1"
    entry = bench.ledger.entries("toy", kind=KIND)[0]
    assert (entry.action, entry.evidence["named"]) == ("hold", ["ops"])
    assert "only ops stands for it, another person must approve" in entry.reason
    asked.approve("toy", version, actor="ben (console)", reason="read the card")
    bench.deployer.poll()
    live = bench.ledger.live("toy")
    assert live is not None and (live.version, live.actor) == (version, "ops (evergreen)")
    assert live.evidence["asked"] == "better on shops" and live.evidence["digest"]
    kinds = {bench.ledger.entry(i).kind for i in live.evidence["decisions"]}  # type: ignore[union-attr]
    assert kinds == {"gate", KIND} and len(live.evidence["decisions"]) == 3


def test_an_alias_moved_in_mlflow_names_nobody_so_two_approve(bench: Bench) -> None:
    bench.restarted_with(Rules(second_person=True))
    asked, version = promotions(bench, second_person=True), bench.version(bias=0.1)
    bench.champion(version)
    bench.deployer.poll()
    for actor in ("ops", "ben"):
        assert bench.routes.routes()["toy"].version == "1"
        asked.approve("toy", version, actor=actor, reason="read the card")
        bench.deployer.poll()
    assert bench.routes.routes()["toy"].version == version


def test_going_back_needs_nobody(bench: Bench) -> None:
    bench.champion(bench.version(bias=0.1))
    bench.deployer.poll()
    bench.restarted_with(Rules(second_person=True))
    bench.champion("1")
    bench.deployer.poll()
    assert bench.routes.routes()["toy"] == Route("1", 3)
    assert told(bench) == []


def test_a_rollback_by_hand_is_done_while_the_registry_is_away_and_told_to_it_after(bench: Bench) -> None:
    bench.champion(bench.version(bias=0.1))
    bench.deployer.poll()
    away = Away(bench.registry)
    bench.restarted(registry=away)
    Promotions(away, bench.ledger, bench.clock).rollback("toy", actor="ops", reason="complaints")
    bench.deployer.poll()
    assert bench.routes.routes()["toy"] == Route("1", 3)
    live = bench.ledger.live("toy")
    assert live is not None and live.actor == "ops"
    away.is_away = False
    for _ in range(3):
        bench.deployer.poll()
    assert bench.registry.alias("toy", "champion") == "1"
    assert bench.deployments()[-3:] == [("rollback", "2"), ("deploy", "1"), ("release", "2")]
    bench.champion("2")
    bench.deployer.poll()
    assert bench.routes.routes()["toy"] == Route("2", 4), "setting it again is a new try"


class Away:
    """The registry behind a network that can be cut."""

    def __init__(self, inner: MemoryRegistry) -> None:
        self._inner = inner
        self.is_away = True

    def __getattr__(self, name: str) -> object:
        if self.is_away:
            raise DependencyDown("MLflow", "connection refused")
        return getattr(self._inner, name)


def test_a_promotion_asked_while_mlflow_is_away_for_ten_minutes_happens_once(bench: Bench) -> None:
    version, away = bench.version(bias=0.1), Away(bench.registry)
    bench.restarted(registry=away)
    for second in range(0, 600, 6):
        if second == 60:
            with pytest.raises(DependencyDown):
                Promotions(away, bench.ledger, bench.clock).promote("toy", version, actor="ops", reason="better")
        bench.pass_time(seconds=6)
        bench.deployer.poll()
        assert bench.routes.routes() == {"toy": Route("1", 1)} and bench.host.loaded() == {"toy": {"1"}}
    away.is_away = False
    for _ in range(5):
        bench.pass_time(seconds=1)
        bench.deployer.poll()
    assert [d.version for d in bench.ledger.deployments("toy")] == [version, "1"]
    assert told(bench) == [("promote", version), ("moved", version)]
    bench.champion("1")
    for _ in range(3):
        bench.pass_time(seconds=60)
        bench.restarted(registry=away).poll()
    assert bench.routes.routes()["toy"].version == "1", "it is done once"


def test_what_a_person_moved_since_is_not_overruled_by_an_old_request(bench: Bench) -> None:
    asked, chosen, away = bench.version(bias=0.1), bench.version(bias=0.2), Away(bench.registry)
    with pytest.raises(DependencyDown):
        Promotions(away, bench.ledger, bench.clock).promote("toy", asked, actor="ops", reason="better")
    bench.champion(chosen)
    bench.pass_time(minutes=1)
    bench.deployer.poll()
    assert bench.routes.routes()["toy"].version == chosen
    assert told(bench) == [("promote", asked), ("keep", asked)]


@pytest.mark.parametrize("whole_model", [False, True])
def test_a_deleted_champion_serves_on_and_raises_one_alarm(bench: Bench, whole_model: bool) -> None:
    other = bench.version(bias=0.1, passed=False)
    bench.registry.delete("toy", "1")
    if whole_model:
        bench.registry.delete("toy", other)
    for _ in range(3):
        bench.pass_time(seconds=5)
        bench.deployer.poll()
    bench.restarted().poll()
    assert bench.routes.routes() == {"toy": Route("1", 1)} and bench.host.loaded() == {"toy": {"1"}}
    assert bench.deployments() == [("deploy", "1"), ("orphan", "1")]
    assert "goes on to answer" in bench.ledger.entries("toy", limit=1)[0].reason


def test_the_registry_is_asked_now_and_then_and_when_woken(bench: Bench) -> None:
    asked: list[float] = []

    class Counting(MemoryRegistry):
        def desired(self) -> dict[str, Desired]:
            asked.append(bench.now_s)
            return bench.registry.desired()

    deployer = bench.restarted_with(Rules(), registry=Counting(bench.folder), registry_poll_s=5.0)
    for _ in range(12):
        bench.pass_time(seconds=1)
        deployer.poll()
    assert [b - a for a, b in itertools.pairwise(asked)] == [5, 5]
    deployer._intent.look_soon()
    deployer.poll()
    assert len(asked) == 4


def test_what_does_worse_is_taken_back_while_another_version_is_held(bench: Bench) -> None:
    bench.champion(bench.version(bias=0.1))
    bench.deployer.poll()
    bench.champion(bench.version(bias=0.2, passed=False))
    bench.deployer.poll()
    taken = Decision("rollback", "worse on 2000 labels", {"role": "champion", "generation": 2})
    bench.ledger.record("toy", "deployment", taken, actor="flow monitor", as_of=bench.clock.now(), version="2")
    for _ in range(3):
        bench.deployer.poll()
    assert bench.routes.routes()["toy"] == Route("1", 3)
    live = bench.ledger.live("toy")
    assert live is not None and live.actor == "flow monitor"
    assert bench.registry.alias("toy", "champion") == "3", "it waits on"
    bench.registry.tag("toy", "3", forced="the labels are late")
    for _ in range(2):
        bench.deployer.poll()
    assert bench.routes.routes()["toy"] == Route("3", 4)
