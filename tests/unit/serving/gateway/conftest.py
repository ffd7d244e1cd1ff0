"""A gateway in memory: a sample use case, a store and a model host that are plain objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.clock import ManualClock
from core.settings import Settings
from core.use_case import EventSource, Field, Label, UseCase
from features.definitions import FeatureSet, RequestView
from features.streams import Keys
from serving.gateway.app import Outside, build_gateway
from serving.gateway.model_caller import MemoryModelCaller
from serving.gateway.request_clock import EventTime, RequestClock, ServerTime
from serving.gateway.store import MemoryStore
from serving.routing import Route

NOW = datetime(2019, 2, 2, 12, 0, tzinfo=UTC)
ROUTE = Route("7", 3, at="2019-02-01T00:00:00+00:00")
GOOD_ROW = {"zone": 7, "fare": 12.5, "vendor": "yellow"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def use_case() -> UseCase:
    hour = RequestView(
        name="clock", inputs=("at",), outputs=("hour",), compute=lambda c: {"hour": c["at"] // 3_600_000_000 % 24}
    )
    return UseCase(
        name="tip",
        description="Will there be a tip?",
        entities=(Field(name="zone", dtype="int", ge=1, le=300, example=7, description="pick-up zone"),),
        request=(
            Field(name="fare", dtype="float", ge=0, le=1000, example=12.5),
            Field(name="vendor", dtype="str", nullable=True),
            Field(name="count", dtype="int", nullable=True),
        ),
        sources=(
            EventSource(
                name="trips",
                fields=(Field(name="zone", dtype="int"), Field(name="share", dtype="float", nullable=True)),
            ),
        ),
        features=FeatureSet((hour,)),
        label=Label(name="tipped", horizon=timedelta(hours=1), known_only_after=("tip_amount",)),
        estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
        history=lambda folder: None,  # type: ignore[arg-type,return-value]
    )


@dataclass
class World:
    """A running gateway and everything around it."""

    client: httpx.AsyncClient
    store: MemoryStore
    caller: MemoryModelCaller
    keys: Keys
    clock: ManualClock
    good_row: Mapping[str, Any] = field(default_factory=lambda: dict(GOOD_ROW))

    async def predict(self, *rows: Mapping[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post("/v1/models/tip/predict", json={"instances": list(rows)}, headers=headers)

    def written(self) -> int:
        return sum(len(entries) for entries in self.store.streams.values())


Running = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def running(tmp_path: Path, use_case: UseCase) -> Running:
    """Opens a gateway: ``async with running(gateway={"api_key": "k"}) as world``."""

    @asynccontextmanager
    async def run(
        *, live: bool = True, route: Route = ROUTE, caller: MemoryModelCaller | None = None, **overrides: Any
    ) -> AsyncIterator[World]:
        settings = Settings(home=tmp_path, **overrides)
        store, keys, clock = MemoryStore(), Keys(settings.redis.namespace), ManualClock(NOW)
        caller = caller or MemoryModelCaller()
        if live:
            store.hashes[keys.routes] = {"tip": route.encode()}
        request_clock: RequestClock = EventTime() if settings.clock == "event" else ServerTime(clock)
        app = build_gateway(settings, {"tip": use_case}, Outside(store, lambda: caller, request_clock))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with _alive(app), httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield World(client, store, caller, keys, clock)

    return run


@asynccontextmanager
async def _alive(app: Any) -> AsyncIterator[None]:
    """Run an ASGI application's lifespan."""
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    yield
    await to_app.put({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await task
