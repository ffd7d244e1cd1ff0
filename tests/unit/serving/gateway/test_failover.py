from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from serving.gateway.failover import FailoverCaller
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed, MemoryModelCaller
from serving.gateway.route_table import InFlight, RouteTable
from serving.gateway.store import MemoryStore
from serving.gateway.tallies import Tallies

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"instances": [{"fare": 1.0}], "calls": [[1, 0, "id", None, True]]}


class _Rig:
    """A model host whose versions fail as told: version -> statuses to fail with, one per call."""

    def __init__(self, live: str, failures: dict[str, list[int | None]]) -> None:
        self.store = MemoryStore()
        self.in_flight = InFlight()
        metrics = GatewayMetrics()
        self.tallies = Tallies(metrics)
        self.routes = RouteTable(
            self.store,
            routes_key="routes",
            gateways_key="gateways",
            gateway_id="g",
            in_flight=self.in_flight,
            tallies=self.tallies,
        )
        self.route_to(live)
        self.pauses: list[float] = []
        self.during_pause: Callable[[], None] = lambda: None
        self._failures = failures
        self.inner = MemoryModelCaller(self._answer)
        self.now_s = 0.0
        self.caller = FailoverCaller(
            self.inner,
            self.routes,
            self.in_flight,
            self.tallies,
            metrics,
            pause=self._pause,
            seconds=lambda: self.now_s,
        )

    def route_to(self, version: str) -> None:
        self.store.hashes["routes"] = {"tip": orjson.dumps({"version": version, "generation": 1, "at": ""})}

    def _answer(self, use_case: str, version: str, body: Mapping[str, Any]) -> list[float]:
        if self._failures.get(version):
            raise CallFailed("told to", self._failures[version].pop(0))
        return [0.5]

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.during_pause()
        await self.routes.refresh()

    async def score(self, version: str) -> str:
        await self.routes.refresh()
        return str((await self.caller.score("tip", version, BODY))["model_version"])

    @property
    def asked(self) -> list[str]:
        return [version for _, version, _ in self.inner.calls]


async def test_a_version_that_is_gone_is_replaced_by_the_live_one() -> None:
    rig = _Rig("2", {"1": [404]})
    assert await rig.score("1") == "2"
    assert not rig.pauses
    assert rig.in_flight.counts() == {}


async def test_a_version_that_is_gone_makes_the_routes_be_read_again() -> None:
    rig = _Rig("1", {"1": [404]})
    await rig.routes.refresh()
    rig.route_to("2")
    assert (await rig.caller.score("tip", "1", BODY))["model_version"] == "2"


@pytest.mark.parametrize("status", [None, 503, 507])
async def test_a_dead_worker_is_asked_again_at_once_and_then_after_pauses(status: int | None) -> None:
    rig = _Rig("1", {"1": [status, status, status]})
    assert await rig.score("1") == "1"
    assert rig.pauses == [0.05, 0.2]
    tally = rig.tallies.all()["tip/1"]
    assert (tally.requests, tally.errors) == (4, 3)


async def test_a_worker_that_stays_dead_is_given_up() -> None:
    rig = _Rig("1", {"1": [503] * 9})
    with pytest.raises(CallFailed):
        await rig.score("1")
    assert rig.asked == ["1"] * 4


async def test_a_version_replaced_during_the_pause_is_followed() -> None:
    rig = _Rig("1", {"1": [503, 503]})
    rig.during_pause = lambda: rig.route_to("2")
    assert await rig.score("1") == "2"


@pytest.mark.parametrize("status", [400, 500])
async def test_what_the_same_call_would_meet_again_is_not_repeated(status: int) -> None:
    rig = _Rig("1", {"1": [status]})
    with pytest.raises(CallFailed):
        await rig.score("1")
    assert rig.asked == ["1"]


async def test_retries_end_even_if_everything_fails() -> None:
    rig = _Rig("2", {"1": [503] * 9, "2": [503] * 9})
    with pytest.raises(CallFailed):
        await rig.score("1")
    assert rig.asked == ["1", "2", "2", "2"]


async def test_a_version_that_keeps_failing_is_left_alone_for_a_while_and_then_tried() -> None:
    rig = _Rig("1", {"1": [503] * 8})
    for _ in range(2):
        with pytest.raises(CallFailed):
            await rig.score("1")
    assert rig.asked == ["1"] * 5
    assert rig.caller.is_open("tip", "1")
    with pytest.raises(CallFailed, match="left alone"):
        await rig.score("1")
    assert rig.asked == ["1"] * 5, "nobody waits for a version that does not answer"
    rig._failures["1"] = []
    rig.now_s = 1.0
    assert await rig.score("1") == "1"
    assert not rig.caller.is_open("tip", "1")


async def test_a_canary_that_is_left_alone_is_replaced_by_the_champion() -> None:
    rig = _Rig("1", {"2": [503] * 99})
    for _ in range(9):
        assert await rig.score("2") == "1"
    assert rig.asked.count("2") == 5
    tally = rig.tallies.all()["tip/2"]
    assert (tally.requests, tally.errors) == (9, 9)


async def test_nobody_answers_for_a_shadow() -> None:
    rig = _Rig("1", {"9": [503]})
    await rig.routes.refresh()
    with pytest.raises(CallFailed):
        await rig.caller.score("tip", "9", BODY | {"role": "shadow"})
    assert rig.asked == ["9"]


async def test_retries_are_bounded_by_a_share_of_the_calls() -> None:
    rig = _Rig("1", {"1": [503] * 999})
    for i in range(100):
        rig.now_s = i * 100.0 if i < 1 else rig.now_s + 0.001
        rig.caller._breakers.clear()
        with pytest.raises(CallFailed):
            await rig.score("1")
    assert len(rig.asked) < 100 + 20 + 20 + 3, "a retry for every fifth call, and twenty at the beginning"
