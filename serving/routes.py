"""Which version answers for each use case: written by the deployer, read by every gateway."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import redis

from core.clock import Clock, SystemClock, to_us
from core.errors import DependencyDown
from core.settings import Settings
from features.connection import REDIS_FAULTS, connect
from features.streams import Keys

logger = logging.getLogger(__name__)
_DEAD_AFTER_MS = 5000
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Route:
    """Where a use case's predictions go.

    Args:
        version: the version that answers.
        generation: the ledger's number of the deployment that put it there.
    """

    version: str
    generation: int


class RouteTable(Protocol):
    """The routes, and what the gateways make of them.

    Every method raises DependencyDown if the table cannot be reached.
    """

    def routes(self) -> dict[str, Route]:
        """All routes, by use case."""
        ...

    def publish(self, use_case: str, route: Route) -> None:
        """Send a use case's predictions to another version. Must be idempotent."""
        ...

    def picked_up(self, use_case: str, generation: int) -> bool:
        """Whether every live gateway routes by this generation."""
        ...

    def in_flight(self, use_case: str) -> Mapping[str, int]:
        """Instances that gateways wait for, by version; a version without any is left out."""
        ...


@dataclass
class MemoryRouteTable:
    """A table in memory, whose gateways follow at once. For tests.

    Example:
        >>> table = MemoryRouteTable()
        >>> table.publish("taxi_tip", Route("7", 12))
        >>> table.picked_up("taxi_tip", 12)
        True
    """

    waiting: dict[str, dict[str, int]] = field(default_factory=dict)
    following: bool = True
    _routes: dict[str, Route] = field(default_factory=dict)

    def routes(self) -> dict[str, Route]:
        """What was published."""
        return dict(self._routes)

    def publish(self, use_case: str, route: Route) -> None:
        """Keep it."""
        self._routes[use_case] = route

    def picked_up(self, use_case: str, generation: int) -> bool:
        """Whether it was published, unless told that the gateways do not follow."""
        route = self._routes.get(use_case)
        return self.following and route is not None and route.generation == generation

    def in_flight(self, use_case: str) -> Mapping[str, int]:
        """What `waiting` says."""
        return self.waiting.get(use_case, {})


class RedisRouteTable:
    """The table in Redis.

    A gateway that has not reported for 5 s is taken for dead and struck off; if it lives after all, it
    puts itself back with its next look at the routes.

    Args:
        client: Redis.
        namespace: prefix of the keys.
        clock: the wall clock that gateways stamp their reports with.
    """

    def __init__(self, client: redis.Redis, namespace: str, clock: Clock | None = None) -> None:
        self._client = client
        self._keys = Keys(namespace)
        self._clock = clock or SystemClock()

    @classmethod
    def connect(cls, settings: Settings) -> RedisRouteTable:
        """A table in the settings' Redis.

        Raises:
            DependencyDown: if it is a cluster that does not answer; one server is connected to on first use.
        """
        client = connect(settings, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        return cls(client, settings.redis.namespace)

    def routes(self) -> dict[str, Route]:
        """Parse the hash; an entry that cannot be read counts as absent, so that it is published again."""
        found = {}
        for use_case, raw in self._read(self._keys.routes).items():
            try:
                entry = orjson.loads(raw)
                found[use_case] = Route(str(entry["version"]), int(entry["generation"]))
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("The route of %s cannot be read (%s): %.200r", use_case, error, raw)
        return found

    def publish(self, use_case: str, route: Route) -> None:
        """Write the hash field."""
        entry = {"version": route.version, "generation": route.generation, "at": self._clock.now().isoformat()}
        try:
            self._client.hset(self._keys.routes, use_case, orjson.dumps(entry))
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error

    def picked_up(self, use_case: str, generation: int) -> bool:
        """Compare the live gateways' reports."""
        return all(report["routes"].get(use_case) == generation for report in self._reports())

    def in_flight(self, use_case: str) -> Mapping[str, int]:
        """Add up the live gateways' reports."""
        total: Counter[str] = Counter()
        for report in self._reports():
            for key, n in report["inflight"].items():
                name, _, version = key.rpartition("/")
                if name == use_case and n > 0:
                    total[version] += n
        return total

    def _reports(self) -> list[dict[str, Any]]:
        oldest_ms = to_us(self._clock.now()) // 1000 - _DEAD_AFTER_MS
        alive, dead = [], []
        for gateway, raw in self._read(self._keys.gateways).items():
            try:
                report = orjson.loads(raw)
                if report["at_ms"] < oldest_ms:
                    dead.append(gateway)
                else:
                    alive.append({"routes": dict(report["routes"]), "inflight": dict(report["inflight"])})
            except (ValueError, KeyError, TypeError):
                dead.append(gateway)
        if dead:
            logger.info("Gateways without a sign of life for %d s: %s", _DEAD_AFTER_MS // 1000, ", ".join(dead))
            try:
                self._client.hdel(self._keys.gateways, *dead)
            except REDIS_FAULTS as error:
                raise DependencyDown("Redis", str(error)) from error
        return alive

    def _read(self, key: str) -> dict[str, bytes]:
        try:
            found: Any = self._client.hgetall(key)
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error
        return {name.decode(): value for name, value in found.items()}
