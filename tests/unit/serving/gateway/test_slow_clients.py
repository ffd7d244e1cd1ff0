"""Clients that send slowly, or too much, over real connections; time limits are shortened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from core.clock import ManualClock
from core.errors import Overloaded
from core.settings import Settings
from core.use_case import UseCase
from features.streams import Keys
from serving.gateway.app import Outside, build_gateway
from serving.gateway.coalescer import Coalescer
from serving.gateway.model_caller import MemoryModelCaller
from serving.gateway.protocol import GatewayProtocol
from serving.gateway.request_clock import ServerTime
from serving.gateway.store import MemoryStore
from tests.unit.serving.gateway.conftest import _alive

pytestmark = pytest.mark.anyio
LIMIT_S = 0.3
MOST_BYTES = 2048
CALL = b"POST /v1/models/tip/predict HTTP/1.1\r\nHost: x\r\n"
ROW = b'{"instances":[{"zone":7,"fare":12.5,"vendor":"yellow"}]}'


@pytest.fixture
async def port(tmp_path: Path, use_case: UseCase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Where a gateway listens."""
    monkeypatch.setattr("serving.gateway.protocol._HEADERS_TIME_S", LIMIT_S)
    monkeypatch.setattr("serving.gateway.protocol.BODY_TIME_S", LIMIT_S)
    settings = Settings(home=tmp_path, gateway={"max_body_bytes": MOST_BYTES})
    store, clock = MemoryStore(), ServerTime(ManualClock(datetime(2019, 2, 2, 12, tzinfo=UTC)))
    route = {"version": "7", "generation": 3, "at": "2019-02-01T00:00:00+00:00"}
    store.hashes[Keys(settings.redis.namespace).routes] = {"tip": orjson.dumps(route)}
    app = build_gateway(settings, {"tip": use_case}, Outside(store, MemoryModelCaller, clock))
    config, state = Config(app, http=GatewayProtocol, ws="none", log_config=None), ServerState()
    config.load()
    config.loaded_app = app
    loop = asyncio.get_running_loop()
    async with _alive(app):
        server = await loop.create_server(
            lambda: GatewayProtocol(config=config, server_state=state, app_state={}), "127.0.0.1"
        )
        yield server.sockets[0].getsockname()[1]
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()  # type: ignore[union-attr]


async def drip(port: int, first: bytes, piece: bytes) -> tuple[bytes, float]:
    """Send `first`, then `piece` again and again until the gateway hangs up: what it said, and after how long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    began_s, said = time.monotonic(), b""
    while time.monotonic() - began_s < 20:
        writer.write(piece)
        try:
            async with asyncio.timeout(LIMIT_S / 20):
                chunk = await reader.read(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        if not chunk:
            break
        said += chunk
    writer.close()
    return said, time.monotonic() - began_s


async def ask(port: int, request: bytes) -> bytes:
    """What is answered until the gateway hangs up, or to the end of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        said = await reader.readuntil(b"\r\n\r\n")
        said += await reader.read(65_536)
    writer.close()
    return said


async def test_headers_that_drip_are_cut_off(port: int) -> None:
    for first in (b"", b"GET /healthz HTTP/1.1\r\n", CALL):
        said, after_s = await drip(port, first, b"X: a\r\n" if first else b"P")
        assert said == b"" or said.startswith(b"HTTP/1.1 400")
        assert after_s < 5, "the limit is on the whole, not on each piece"


async def test_a_body_that_drips_is_refused(port: int) -> None:
    said, after_s = await drip(port, CALL + b"Content-Length: 1000\r\n\r\n", b" ")
    assert said.startswith(b"HTTP/1.1 408")
    assert LIMIT_S * 0.9 < after_s < 5


async def test_a_body_that_is_announced_too_large_is_refused_unread(port: int) -> None:
    said = await ask(port, CALL + b"Content-Length: 2049\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413") and b"connection: close" in said
    said = await ask(port, CALL + b"Content-Length: 2049\r\nExpect: 100-continue\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413"), "it is not told to go on"


async def test_what_would_wait_too_long_is_refused_unread(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(self: Coalescer, use_case: str, version: str, n: int = 1) -> None:
        raise Overloaded("No room.")

    head = CALL + b"Content-Length: %d\r\n\r\n" % len(ROW)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        with monkeypatch.context() as full:
            full.setattr(Coalescer, "require_room", is_full)
            writer.write(head)
            said = await reader.readuntil(b'"No room.')
        writer.write(ROW + head + ROW)  # what was refused is dropped, what comes next is answered
        await reader.readuntil(b"}")
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert said.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in said and b"connection: close" not in said
    assert answer.startswith(b"HTTP/1.1 200")


async def test_others_are_served_beside_many_slow_ones(port: int) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for _, writer in slow:
        writer.write(CALL)
    request = CALL + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW
    assert (await ask(port, request)).startswith(b"HTTP/1.1 200")
    for reader, writer in slow:
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
