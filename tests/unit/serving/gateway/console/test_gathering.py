"""Asking what a page is made from costs traffic nothing, whatever does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from core.errors import DependencyDown
from core.ledger import Ledger
from core.settings import Settings
from features.streams import Keys
from serving.gateway.console.gathering import Gatherer
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.route_table import InFlight, RouteTable
from serving.gateway.store import MemoryStore
from serving.gateway.tallies import Tallies

pytestmark = pytest.mark.anyio


@pytest.fixture
def gatherer(tmp_path: Path) -> Iterator[Gatherer]:
    settings, metrics, keys = Settings(home=tmp_path), GatewayMetrics(), Keys("test")
    routes = RouteTable(MemoryStore(), routes_key=keys.routes, gateways_key=keys.gateways, gateway_id="g",
                        in_flight=InFlight(), tallies=Tallies(metrics))  # fmt: skip
    with (
        closing(Ledger("sqlite://")) as ledger,
        closing(Gatherer(settings, {}, ledger, routes, metrics, timeout_s=0.5)) as gatherer,
    ):
        yield gatherer


async def test_what_hangs_is_given_up_and_keeps_nothing_else_waiting(gatherer: Gatherer) -> None:
    hold = threading.Event()
    try:
        stuck = await asyncio.gather(*(gatherer.find(f"mlflow {i}", lambda: hold.wait(10)) for i in range(6)))
        assert {found.problem for found in stuck} == {"there was no answer within 0.5 s"}
        assert (await gatherer.find("ledger x", lambda: "here")).value == "here"
    finally:
        hold.set()


async def test_many_who_look_at_once_ask_once(gatherer: Gatherer) -> None:
    asked: list[int] = []
    found = await asyncio.gather(*(gatherer.find("redis", lambda: asked.append(1)) for _ in range(20)))
    assert (len(asked), len(found)) == (1, 20)
    gatherer.forget()
    await gatherer.find("redis", lambda: asked.append(1))
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DependencyDown("MLflow", "Connection refused"), "Connection refused"),
        (OperationalError("select", {}, Exception("password of db.internal")), "OperationalError"),
    ],
)
async def test_errors_are_told_without_what_drivers_say(gatherer: Gatherer, error: Exception, says: str) -> None:
    def read() -> None:
        raise error

    assert (await gatherer.ask(read)).problem == says
