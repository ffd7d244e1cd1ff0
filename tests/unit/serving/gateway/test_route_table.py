from __future__ import annotations

import logging

import pytest

from core.errors import DependencyDown, NoLiveVersion
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.route_table import InFlight, RouteTable
from serving.gateway.store import MemoryStore
from serving.gateway.tallies import Tallies
from serving.gateway_report import Report
from serving.routing import Route, Share

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.hashes["routes"] = {"tip": b'{"version": "7", "generation": 12, "at": "2019-02-02T00:00:00Z"}'}
    return store


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight()


@pytest.fixture
def tallies() -> Tallies:
    return Tallies(GatewayMetrics())


@pytest.fixture
def table(store: MemoryStore, in_flight: InFlight, tallies: Tallies) -> RouteTable:
    return RouteTable(
        store,
        routes_key="routes",
        gateways_key="gateways",
        gateway_id="g1",
        in_flight=in_flight,
        tallies=tallies,
    )


async def test_routes_are_read_and_reported(
    store: MemoryStore, table: RouteTable, in_flight: InFlight, tallies: Tallies
) -> None:
    tallies.answered("tip", "6", 0.003, 2)
    tallies.failed("tip", "6", 1)
    with in_flight.counted("tip", "6", 3):
        await table.refresh()
    assert table.live("tip") == Route("7", 12)
    report = Report.decode(store.hashes["gateways"]["g1"])
    assert report.stamps == {"tip": Route("7", 12).stamp}
    assert report.in_flight == {"tip/6": 3}
    assert (report.tallies["tip/6"].requests, report.tallies["tip/6"].errors) == (3, 1)
    assert sum(report.tallies["tip/6"].latency) == 2
    assert report.at_ms > 1_700_000_000_000
    await table.leave()
    assert store.hashes["gateways"] == {}


async def test_a_route_with_shares_is_followed(store: MemoryStore, table: RouteTable) -> None:
    split = Route("7", 12, canary=Share("8", 10), shadow=Share("9", 100))
    store.hashes["routes"]["tip"] = split.encode()
    await table.refresh()
    assert table.live("tip") == split
    assert Report.decode(store.hashes["gateways"]["g1"]).stamps == {"tip": split.stamp}


async def test_the_last_routes_stay_in_force_while_the_store_is_away(store: MemoryStore, table: RouteTable) -> None:
    assert not table.was_read
    await table.refresh()
    store.down = True
    with pytest.raises(DependencyDown):
        await table.refresh()
    assert table.live("tip").version == "7"
    await table.leave()  # says so in the log, raises nothing


async def test_a_use_case_without_a_route_has_no_live_version(table: RouteTable) -> None:
    with pytest.raises(NoLiveVersion):
        table.live("tip")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b'{"version": "7", "generation": "x"}', b"null"])
async def test_a_route_that_cannot_be_understood_is_ignored_and_logged_once(
    store: MemoryStore, table: RouteTable, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.hashes["routes"]["other"] = raw
    with caplog.at_level(logging.ERROR):
        await table.refresh()
        await table.refresh()
    assert table.find("other") is None
    assert table.live("tip").version == "7"
    assert len(caplog.records) == 1
