from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.settings import Settings
from serving.torchserve.host import TorchServeHost
from tests.torchserve_process import running_torchserve


@pytest.fixture(scope="module")
def torchserve(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a running TorchServe."""
    with running_torchserve(tmp_path_factory.mktemp("home"), redis_server, "served") as settings:
        yield settings


@pytest.fixture(scope="module")
def host(torchserve: Settings) -> Iterator[TorchServeHost]:
    """Its model host."""
    host = TorchServeHost(torchserve)
    yield host
    host.close()
