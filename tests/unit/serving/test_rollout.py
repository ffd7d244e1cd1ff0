"""Canary, shadow, bake and taking back, through the deployer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import DependencyDown
from registry.versions import Desired
from serving.deployment import Stations
from serving.model_host import MemoryModelHost
from serving.routing import Route, Share
from serving.standing import read_standing
from tests.deployer_bench import Bench
from tests.doomed import Fate, doomed


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Version 1 answers; 2 and 3 are registered."""
    bench = Bench(tmp_path)
    bench.champion(bench.version())
    bench.deployer.poll()
    bench.version(bias=0.1)
    bench.version(bias=0.2)
    yield bench
    bench.ledger.close()


def poll(bench: Bench, times: int = 2) -> None:
    for _ in range(times):
        bench.deployer.poll()


def now_at(bench: Bench, **stations: Any) -> None:
    """Let the running deployer meet other stations from now on."""
    _meet(bench, replace(bench.stations, **stations))


def _meet(bench: Bench, stations: Stations) -> None:
    bench.deployer._at = bench.deployer._deployment._at = stations


def route(bench: Bench) -> Route:
    return bench.routes.routes()["toy"]


class Away:
    """A registry that is away, wholly or for writes."""

    def __init__(self, inner: Any, reads: bool = False) -> None:
        self._inner, self._reads = inner, reads

    def desired(self) -> dict[str, Desired]:
        if not self._reads:
            raise DependencyDown("MLflow", "connection refused")
        found: dict[str, Desired] = self._inner.desired()
        return found

    def alias(self, use_case: str, name: str) -> str | None:
        raise DependencyDown("MLflow", "connection refused")

    def info(self, use_case: str, version: str) -> None:
        raise DependencyDown("MLflow", "connection refused")


def test_a_canary_is_routed_changed_and_ended_by_alias_and_tag(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    assert route(bench) == Route("1", 1, canary=Share("2", 10))
    bench.alias("canary", "2", "25")
    poll(bench)
    assert route(bench) == Route("1", 1, canary=Share("2", 25))
    bench.alias("canary", "3", "50")
    poll(bench)
    assert route(bench) == Route("1", 1, canary=Share("3", 50))
    bench.alias("canary", None)
    poll(bench)
    assert route(bench) == Route("1", 1)
    assert bench.host.loaded() == {"toy": {"1", "2", "3"}}, "they drain first"
    bench.pass_time(seconds=6)
    poll(bench)
    assert bench.host.loaded() == {"toy": {"1"}}
    said = [(e.action, e.version, e.reason) for e in reversed(bench.ledger.entries("toy", kind="deployment"))][1:]
    assert said == [
        ("canary", "2", "2 answers 10 % of the entities"),
        ("canary", "2", "2 answers 25 % of the entities, 10 % before"),
        ("canary", "3", "3 answers 50 % of the entities, in the place of 2"),
        ("end", "3", "3 is canary no longer"),
    ]


def test_a_shadow_gets_everything_unless_told_otherwise(bench: Bench) -> None:
    bench.alias("shadow", "3")
    bench.alias("canary", "2")
    poll(bench)
    assert route(bench) == Route("1", 1, canary=Share("2", 10), shadow=Share("3", 100))


def test_a_canary_that_is_the_champion_is_none(bench: Bench) -> None:
    bench.alias("canary", "1")
    poll(bench)
    assert route(bench) == Route("1", 1)
    assert bench.deployments() == [("deploy", "1")]


def test_a_malformed_tag_is_told_once_and_leaves_serving_as_it_is(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.alias("canary", "2", "20")
    poll(bench)
    bench.alias("canary", "2", "a lot")
    poll(bench, 3)
    assert route(bench) == Route("1", 1, canary=Share("2", 20))
    message = "the tag evergreen.canary_percent is 'a lot', which is no number from 0 to 100"
    assert caplog.text.count(message) == 1
    bench.champion("3")
    poll(bench)
    assert route(bench) == Route("3", 2, canary=Share("2", 20)), "the champion is followed all the same"
    bench.alias("canary", "2", "30")
    poll(bench)
    assert route(bench) == Route("3", 2, canary=Share("2", 30))


def test_a_canary_becomes_champion_seamlessly(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    registered: list[str] = []
    bench.host.register = lambda use_case, version, archive: registered.append(version)
    bench.champion("2")
    poll(bench)
    assert route(bench) == Route("2", 2)
    assert registered == [] and bench.host.loaded() == {"toy": {"1", "2"}}
    assert bench.deployments()[-2:] == [("deploy", "2"), ("end", "2")]


def test_a_restarted_host_gets_everything_back_while_the_registry_is_away(bench: Bench) -> None:
    bench.champion("2")
    poll(bench)
    bench.alias("canary", "3")
    bench.alias("shadow", "1", "50")
    poll(bench)
    before, empty = route(bench), MemoryModelHost()
    bench.restarted(host=empty, registry=Away(bench.registry)).poll()
    assert empty.loaded() == {"toy": {"1", "2", "3"}} and empty.preferred == {"toy": "2"}
    assert route(bench) == before == Route("2", 2, canary=Share("3", 10), shadow=Share("1", 50))


@pytest.mark.parametrize(
    ("n", "errors", "seconds", "why"),
    [(300, 30, 0.004, "10.0 % of 300 requests failed"), (300, 0, 0.3, "99th percentile of latency is 4")],
)
def test_a_bad_canary_is_taken_back_by_itself(
    bench: Bench, n: int, errors: int, seconds: float, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.alias("canary", "2")
    poll(bench)
    bench.asked("1", 3000)
    bench.asked("2", n, errors, seconds)
    bench.deployer.poll()
    assert route(bench) == Route("1", 1)
    assert bench.registry.alias("toy", "canary") is None
    entry = next(e for e in bench.ledger.entries("toy") if e.action == "rollback")
    assert why in entry.reason and entry.reason.startswith("canary 2 is taken back: ")
    assert (entry.version, entry.evidence["role"], entry.evidence["requests"]) == ("2", "canary", n)
    poll(bench)
    assert bench.deployments()[-1] == ("release", "2")


def test_a_canary_that_was_taken_back_stays_away_while_mlflow_does_and_may_be_tried_again(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    bench.restarted(registry=Away(bench.registry, reads=True))
    bench.deployer.poll()  # the first look of a new process: it counts from here on
    bench.asked("2", 300, errors=300)
    bench.asked("1", 3000)
    poll(bench, 3)
    assert route(bench) == Route("1", 1)
    bench.restarted(registry=Away(bench.registry, reads=True))
    poll(bench, 3)
    assert route(bench) == Route("1", 1) and bench.deployments()[-1] == ("rollback", "2")
    assert bench.registry.alias("toy", "canary") == "2", "MLflow takes no writes"
    bench.restarted()
    poll(bench, 3)
    assert bench.registry.alias("toy", "canary") is None
    bench.alias("canary", "2")
    poll(bench, 3)
    assert route(bench) == Route("1", 1, canary=Share("2", 10)), "a new try, not judged by what it did in the old one"


def test_a_bad_champion_gives_way_to_the_warm_one_also_while_mlflow_is_away(bench: Bench) -> None:
    bench.asked("1", 3000)
    bench.champion("2")
    poll(bench)
    assert route(bench) == Route("2", 2)
    bench.deployer.poll()
    now_at(bench, registry=Away(bench.registry))
    bench.asked("2", 300, errors=20)
    poll(bench, 3)
    assert route(bench) == Route("1", 3)
    bench.restarted()
    poll(bench, 3)
    assert route(bench) == Route("1", 3) and bench.registry.alias("toy", "champion") == "1"
    bench.asked("1", 3000, errors=3000)
    poll(bench, 3)
    assert route(bench) == Route("1", 3), "going back is not judged, so that it does not go back and forth"
    live = bench.ledger.live("toy")
    assert live is not None and live.reason == "champion moved from 2 to 1: 2 was taken back"
    bench.champion("2")
    poll(bench)
    assert route(bench) == Route("2", 4), "a person may try it again"


def test_a_champion_is_compared_with_what_the_previous_one_did_before(bench: Bench) -> None:
    bench.asked("1", 3000, errors=300, seconds=0.09)
    poll(bench)
    bench.asked("1", 3000, errors=300, seconds=0.09)
    bench.champion("2")
    poll(bench)
    bench.asked("2", 300, errors=30, seconds=0.09)
    poll(bench)
    assert route(bench) == Route("2", 2)
    bench.asked("2", 300, errors=30, seconds=0.4)
    poll(bench)
    assert route(bench) == Route("1", 3)


def test_a_bake_is_over_after_its_period(bench: Bench) -> None:
    bench.alias("canary", "2")
    bench.champion("3")
    poll(bench)
    bench.asked("2")
    bench.asked("3", 3000)
    bench.pass_time(minutes=10)
    poll(bench)
    passed = [(e.version, e.evidence["role"]) for e in bench.ledger.entries("toy") if e.action == "pass"]
    assert sorted(passed) == [("2", "canary"), ("3", "champion")]
    bench.asked("2", errors=300)
    bench.asked("3", 3000, errors=300)
    poll(bench)
    assert route(bench) == Route("3", 2, canary=Share("2", 10)), "nothing is taken back after its bake"
    bench.alias("canary", "2", "50")
    poll(bench)
    bench.asked("2", errors=300)
    bench.asked("3", 3000)
    poll(bench)
    assert route(bench) == Route("3", 2), "a larger share is another bake"


def test_what_fails_while_the_host_is_away_is_no_versions_fault(bench: Bench) -> None:
    bench.champion("2")
    poll(bench)

    class Gone(MemoryModelHost):
        def loaded(self) -> dict[str, set[str]]:
            raise DependencyDown("TorchServe", "connection refused")

    now_at(bench, host=Gone())
    with pytest.raises(DependencyDown):
        bench.deployer.poll()
    bench.asked("2", errors=300)
    empty = MemoryModelHost()
    now_at(bench, host=empty)
    poll(bench)
    assert route(bench) == Route("2", 2)
    bench.asked("2", errors=300)
    poll(bench)
    assert route(bench) == Route("1", 3), "but what it does from then on is"


class Killed(BaseException):
    """The process is gone."""


def _die() -> None:
    raise Killed


def _start_canary(bench: Bench) -> None:
    bench.alias("canary", "2")
    bench.alias("shadow", "3")


def _change_share(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    bench.alias("canary", "2", "50")


def _end_canary(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    bench.alias("canary", None)


def _promote_canary(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    bench.champion("2")


def _take_back_canary(bench: Bench) -> None:
    bench.alias("canary", "2")
    poll(bench)
    bench.bad = {"2"}


def _take_back_champion(bench: Bench) -> None:
    bench.champion("2")
    poll(bench)
    bench.bad = {"2"}


def _lose_the_host(bench: Bench) -> None:
    bench.champion("2")
    bench.alias("canary", "3")
    bench.alias("shadow", "1")
    poll(bench)
    bench.host = MemoryModelHost()
    bench.stations = replace(bench.stations, host=bench.host)


SCENARIOS = (
    _start_canary, _change_share, _end_canary, _promote_canary, _take_back_canary, _take_back_champion, _lose_the_host,
)  # fmt: skip
_ROUNDS = 7


def _settle(bench: Bench) -> None:
    """Poll under traffic; drains are waited for."""
    for _ in range(_ROUNDS):
        for version in route(bench).versions:
            bench.asked(version, errors=300 if version in bench.bad else 0)
        bench.deployer.poll()
        for version in route(bench).versions if bench.host.loaded() else ():
            assert version in bench.host.loaded()["toy"]
        bench.pass_time(seconds=6)


def _end_of(bench: Bench) -> dict[str, Any]:
    standing = read_standing(bench.ledger, "toy")
    return {
        "route": route(bench), "loaded": bench.host.loaded(), "preferred": bench.host.preferred,
        "aliases": bench.registry.desired()["toy"].aliases, "barred": standing.barred,
        "shares": {role: part.share for role, part in standing.parts.items()},
        "deployed": [d.version for d in bench.ledger.deployments("toy")],
        "packed": sorted(path.name for path in bench.stations.store.iterdir()),
    }  # fmt: skip


@pytest.mark.parametrize("is_before", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_write_ends_where_no_kill_does(scenario: Any, is_before: bool, tmp_path: Path) -> None:
    ends, kills = [], 0
    for n in range(1, 30):
        bench = Bench(tmp_path / str(n))
        for bias in (0.0, 0.1, 0.2):
            bench.version(bias=bias)
        bench.champion("1")
        poll(bench)
        scenario(bench)
        fate = Fate(_die)
        fate.seal(n, is_before=is_before)
        _meet(bench, doomed(bench.stations, fate))
        try:
            _settle(bench)
        except Killed:
            kills += 1
            bench.restarted()
            _settle(bench)
        ends.append(_end_of(bench))
        written = len(bench.ledger.entries("toy"))
        poll(bench, 3)
        assert len(bench.ledger.entries("toy")) == written and _end_of(bench) == ends[-1], (
            "running again changes nothing"
        )
        bench.ledger.close()
        if fate.is_pending:
            break
    assert kills >= 2 and ends[:-1] == ends[-1:] * kills
