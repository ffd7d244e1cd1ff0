"""Questions to a process: does it do its work yet?"""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core.errors import EvergreenError
from core.settings import Settings

if TYPE_CHECKING:
    import redis

    from serving.torchserve.host import TorchServeHost

Probe = Callable[[datetime], bool]
"""Given when the process was started, says whether it does its work. Must not raise nor change anything."""

_TIMEOUT_S = 2.0
_STALLED_S = 10.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy


def http_ok(url: str, opener: urllib.request.OpenerDirector = _direct) -> Probe:
    """Ready when GET of the URL answers 200."""

    def probe(_: datetime) -> bool:
        try:
            with opener.open(url, timeout=_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    return probe


def gateway_alive(settings: Settings) -> Probe:
    """Ready when the gateway says it lives. Its certificate is for clients to check: this call carries no secret."""
    if not settings.gateway.tls_cert:
        return http_ok(f"{settings.gateway_url}/healthz")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    return http_ok(f"{settings.gateway_url}/healthz", opener)


def torchserve_healthy(settings: Settings) -> Probe:
    """Ready when TorchServe accepts its token and calls itself healthy."""

    def probe(_: datetime) -> bool:
        from serving.torchserve.configuration import key_file
        from serving.torchserve.tokens import Tokens

        url = f"{settings.torchserve_inference_url}/ping"
        try:
            token = Tokens(key_file(settings)).inference()
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
            with _direct.open(request, timeout=_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError, EvergreenError):
            return False

    return probe


def versions_answer(settings: Settings) -> Probe:
    """Healthy when TorchServe is, and every version that answers clients scores its recorded requests.

    TorchServe calls itself healthy while the only worker of a version is dead, or hangs.
    """
    healthy = torchserve_healthy(settings)

    def probe(since: datetime) -> bool:
        from serving.torchserve.host import TorchServeHost

        if not healthy(since):
            return False
        host = TorchServeHost(settings, timeout_s=_TIMEOUT_S)
        try:
            return all(_answers(host, settings, use_case, version) for use_case, version in _answering(settings))
        except EvergreenError:
            return False
        finally:
            host.close()

    return probe


def _answering(settings: Settings) -> list[tuple[str, str]]:
    """The versions that answer clients, with their use cases; none while Redis is away: it has a probe of its own."""
    from features.connection import REDIS_FAULTS, connect
    from features.streams import Keys
    from serving.routing import Route

    try:
        with connect(settings, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as client:
            found: Any = client.hgetall(Keys(settings.redis.namespace).routes)
        routes = {use_case.decode(): Route.decode(raw) for use_case, raw in found.items()}
    except (*REDIS_FAULTS, EvergreenError, ValueError):
        return []
    asked = [
        (use_case, (route.version, route.canary.version if route.canary else None))
        for use_case, route in routes.items()
    ]
    return [(use_case, version) for use_case, versions in asked for version in versions if version]


def _answers(host: TorchServeHost, settings: Settings, use_case: str, version: str) -> bool:
    from serving.smoke import smoke_fault, smoke_request
    from serving.torchserve.configuration import store
    from serving.torchserve.packer import archive_name, read_smoke

    recorded = read_smoke(store(settings) / archive_name(use_case, version))
    answer = host.predict(use_case, version, smoke_request(recorded))
    return smoke_fault(answer, version=version, n=len(recorded["instances"])) is None


def redis_pong(host: str, port: int) -> Probe:
    """Ready when Redis answers PING: not while it still loads its append-only file."""

    def probe(_: datetime) -> bool:
        try:
            with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    return probe


def prefect_worker_polls(api_url: str, pool: str) -> Probe:
    """Ready when a worker of the pool has been heard of since the process was started."""

    def probe(since: datetime) -> bool:
        try:
            workers = _post(f"{api_url}/work_pools/{pool}/workers/filter", {})
        except (OSError, ValueError):
            return False
        heard = [worker.get("last_heartbeat_time") for worker in workers if worker.get("status") == "ONLINE"]
        return any(datetime.fromisoformat(text) >= since for text in heard if text)

    return probe


def log_applied(settings: Settings, *, within_s: float = _STALLED_S) -> Probe:
    """Ready when no entry of any partition's log has waited longer than that to be applied."""

    def probe(_: datetime) -> bool:
        from features.connection import REDIS_FAULTS, connect

        try:
            with connect(settings, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as client:
                return _longest_wait_s(client, settings) < within_s
        except (*REDIS_FAULTS, EvergreenError):
            return False

    return probe


def _longest_wait_s(client: redis.Redis, settings: Settings) -> float:
    """How long the oldest entry that is not applied has waited; minus infinity if there is none."""
    from features.streams import Keys, entry_id_of

    keys, partitions = Keys(settings.redis.namespace), range(settings.stream.partitions)
    with client.pipeline(transaction=False) as pipe:
        for partition in partitions:
            pipe.get(keys.cursor(partition))
        cursors = pipe.execute()
        for partition, cursor in zip(partitions, cursors, strict=True):
            pipe.xrange(keys.log(partition), min=f"({entry_id_of(int(cursor or 0))}", count=1)
        oldest = [int(found[0][0].split(b"-")[0]) / 1000 for found in pipe.execute() if found]
    return time.time() - min(oldest, default=float("inf"))


def alive_for(seconds: float) -> Probe:
    """Ready when the process has lived that long: for those with nothing to ask."""

    def probe(since: datetime) -> bool:
        return (datetime.now(UTC) - since).total_seconds() >= seconds

    return probe


def _post(url: str, body: object) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with _direct.open(request, timeout=_TIMEOUT_S) as answer:
        found = json.load(answer)
    return found if isinstance(found, list) else []
