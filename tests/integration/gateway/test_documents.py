"""The page about the protocol says what is true: its example runs against a gateway that listens."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from core.discovery import discover
from core.settings import Settings
from features.streams import Keys
from serving.gateway.app import Outside, build_gateway
from serving.gateway.main import listen
from serving.gateway.model_caller import MemoryModelCaller
from serving.gateway.protocol import GatewayProtocol
from serving.gateway.request_clock import WallTime
from serving.gateway.store import MemoryStore
from serving.routing import Route

ROOT = Path(__file__).resolve().parents[3]


class _Server(uvicorn.Server):
    """Says when it has started."""

    started_once = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.started_once.set()


@pytest.fixture
def address(tmp_path: Path, port: int) -> Iterator[str]:
    """Where a gateway of the repository's own use cases listens; a model host in memory answers 0.5."""
    settings, store = Settings(home=tmp_path), MemoryStore()
    store.hashes[Keys(settings.redis.namespace).routes] = {"taxi_tip": Route("7", 1).encode()}
    use_cases = {name: found.use_case for name, found in discover(ROOT / "models").items()}
    gateway = build_gateway(settings, use_cases, Outside(store, MemoryModelCaller, WallTime()))
    config = uvicorn.Config(gateway, http=GatewayProtocol, ws="none", lifespan="on", log_config=None)
    server, listener = _Server(config), listen("127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert server.started_once.wait(30)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)
    listener.close()


def test_the_example_of_the_protocol_page_runs(address: str) -> None:
    page = (ROOT / "docs" / "open_inference.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    names: dict[str, Any] = {}
    exec(example.replace("127.0.0.1:18080", address), names)
    names["client"].close()
    assert names["scores"].tolist() == [0.5, 0.5]
    assert len(set(names["ids"].tolist())) == 2
    assert names["version"] == "7"
