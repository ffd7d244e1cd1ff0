"""Requests made up from the OpenAPI document, valid and invalid, sent to a real gateway: no answer may be a 5xx.

``python -m tests.fuzz 100000 2`` sends at least that many from that many processes, on a Redis of its own; a third
number is the first seed, for other requests than last time.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from core.clock import SystemClock
from core.discovery import discover
from core.settings import GatewaySettings, RedisSettings, Settings, StreamSettings
from serving.gateway.app import Outside, build_gateway
from serving.gateway.main import listen
from serving.gateway.model_caller import MemoryModelCaller
from serving.gateway.protocol import GatewayProtocol
from serving.gateway.request_clock import ServerTime
from serving.gateway.store import RedisStore
from serving.routing import Route
from tests.conftest import find_redis_server, free_port
from tests.redis_process import running_redis
from tests.waiting import answers, until

MODELS = Path(__file__).parents[1] / "models"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_WITHOUT_A_BODY = 50  # cases are enough for what takes nothing but a name
_MOST_FAILURES = 20


@dataclass
class Found:
    """What came back.

    Args:
        statuses: how many answers had each status.
        failures: what was not as documented, the first twenty.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Take what another run found, too."""
        self.statuses += other.statuses
        self.failures = (self.failures + other.failures)[:_MOST_FAILURES]


def fuzz(redis_url: str, namespace: str, home: Path, *, cases: int, first_seed: int = 0) -> Found:
    """Send about that many requests, the same ones for the same seed, over all operations of the document alike."""
    with running_gateway(redis_url, namespace, home) as url, requests.Session() as session:
        session.trust_env = False
        operations = [found.ok() for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
        bodies = [operation for operation in operations if operation.method == "post"]
        small = [operation for operation in operations if operation.method != "post"]
        found = Found()
        for operation in small:
            _send(operation, GenerationMode.POSITIVE, session, _WITHOUT_A_BODY, first_seed, found)
        share = max(1, -(-(cases - found.statuses.total()) // (2 * len(bodies))))
        for operation in bodies:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _send(operation, mode, session, share, first_seed, found)
    return found


def _send(operation: Any, mode: Any, session: requests.Session, cases: int, first_seed: int, found: Found) -> None:
    @seed(first_seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        response = case.call(session=session)
        found.statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as failure:
            if len(found.failures) < _MOST_FAILURES:
                found.failures.append(f"{case.as_curl_command()}\n{failure}")

    try:
        send()
    except Unsatisfiable:  # whatever is sent to this operation is right
        if mode is not GenerationMode.NEGATIVE:
            raise


@contextmanager
def running_gateway(redis_url: str, namespace: str, home: Path) -> Iterator[str]:
    """The URL of a gateway over HTTP with real Redis, a model host in memory and every use case of ``models/``."""
    port = free_port()
    own = Settings(
        home=home,
        models_dir=MODELS,
        redis=RedisSettings(url=redis_url, namespace=namespace),
        gateway=GatewaySettings(port=port),
        stream=StreamSettings(max_entries=10_000_000),
    )
    use_cases = {name: each.use_case for name, each in discover(own.models_dir).items()}
    store = RedisStore(redis_url)
    gateway = build_gateway(own, use_cases, Outside(store, MemoryModelCaller, ServerTime(SystemClock())))
    config = uvicorn.Config(gateway, http=GatewayProtocol, ws="none", lifespan="on", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with _routed(redis_url, namespace, list(use_cases)), listen("127.0.0.1", port) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "it is not ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _routed(redis_url: str, namespace: str, use_cases: list[str]) -> Iterator[None]:
    import redis

    from features.streams import Keys

    keys = Keys(namespace)
    with redis.Redis.from_url(redis_url) as client:
        for use_case in use_cases:
            client.hset(keys.routes, use_case, Route("1", 1).encode())
        yield
        client.delete(keys.routes, keys.labels, keys.log(0))


def _one(place: tuple[str, str, int, int]) -> Found:
    redis_url, home, cases, number = place
    return fuzz(redis_url, f"fuzz-{number}", Path(home) / str(number), cases=cases, first_seed=number)


def main(cases: int, processes: int, first_seed: int = 0) -> int:
    """Send them, print what came back; 0 if all was as documented."""
    started, found, seeds = time.monotonic(), Found(), count(first_seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_redis(find_redis_server(), free_port(), Path(folder)) as url,
        multiprocessing.get_context("spawn").Pool(processes) as pool,
    ):
        while (left := cases - found.statuses.total()) > 0 and not found.failures:  # Hypothesis may make fewer
            places = [(url, folder, -(-left // processes), next(seeds)) for _ in range(processes)]
            for each in pool.imap_unordered(_one, places):
                found.add(each)
    seconds = time.monotonic() - started
    print(f"{found.statuses.total():,} requests in {seconds:.0f} s: {dict(sorted(found.statuses.items()))}")  # noqa: T201
    print("\n\n".join(found.failures) or "every answer is as documented, none is a 5xx")  # noqa: T201
    return 1 if found.failures else 0


if __name__ == "__main__":
    cases, processes, first_seed = (*map(int, sys.argv[1:]), *(10_000, os.cpu_count() or 1, 0)[len(sys.argv) - 1 :])
    sys.exit(main(cases, processes, first_seed))
