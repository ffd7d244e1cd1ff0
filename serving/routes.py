"""Who answers for each use case: written by the deployer, followed and reported on by every gateway."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import redis

from core.clock import Clock, SystemClock, to_us
from core.errors import DependencyDown
from core.settings import Settings
from features.connection import REDIS_FAULTS, connect
from features.streams import Keys
from serving.gateway_report import Report, Tally
from serving.routing import Route

logger = logging.getLogger(__name__)
_DEAD_AFTER_MS = 5000
_TIMEOUT_S = 5.0


class RouteTable(Protocol):
    """The routes, and what the gateways make of them.

    Every method raises DependencyDown if the table cannot be reached.
    """

    def routes(self) -> dict[str, Route]:
        """All routes, by use case."""
        ...

    def publish(self, use_case: str, route: Route) -> None:
        """Send a use case's predictions elsewhere. Must be idempotent."""
        ...

    def reports(self) -> Mapping[str, Report]:
        """What each live gateway follows and has seen, by its id."""
        ...


def is_followed(reports: Mapping[str, Report], use_case: str, route: Route) -> bool:
    """Whether every gateway sends the use case's predictions where the route says."""
    return all(report.stamps.get(use_case) == route.stamp for report in reports.values())


def in_flight(reports: Mapping[str, Report], use_case: str) -> Mapping[str, int]:
    """Instances that gateways wait for, by version; a version without any is left out."""
    total: Counter[str] = Counter()
    for report in reports.values():
        for key, n in report.in_flight.items():
            name, _, version = key.rpartition("/")
            if name == use_case and n > 0:
                total[version] += n
    return total


@dataclass
class MemoryRouteTable:
    """A table in memory with one gateway, which follows at once. For tests.

    Args:
        waiting: use case -> version -> instances the gateway waits for.
        following: whether it follows what is published.
        tallies: ``use case/version`` -> what it has counted.

    Example:
        >>> table = MemoryRouteTable()
        >>> table.publish("taxi_tip", Route("7", 12))
        >>> is_followed(table.reports(), "taxi_tip", Route("7", 12))
        True
    """

    waiting: dict[str, dict[str, int]] = field(default_factory=dict)
    following: bool = True
    tallies: dict[str, Tally] = field(default_factory=dict)
    _routes: dict[str, Route] = field(default_factory=dict)

    def routes(self) -> dict[str, Route]:
        """What was published."""
        return dict(self._routes)

    def publish(self, use_case: str, route: Route) -> None:
        """Keep it."""
        self._routes[use_case] = route

    def reports(self) -> Mapping[str, Report]:
        """The gateway's report."""
        stamps = {use_case: route.stamp for use_case, route in self._routes.items()} if self.following else {}
        waiting = {f"{name}/{version}": n for name, found in self.waiting.items() for version, n in found.items()}
        return {"memory": Report(stamps, waiting, dict(self.tallies), 0)}


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

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def routes(self) -> dict[str, Route]:
        """Parse the hash; an entry that cannot be read counts as absent, so that it is published again."""
        found = {}
        for use_case, raw in self._read(self._keys.routes).items():
            try:
                found[use_case] = Route.decode(raw)
            except ValueError as error:
                logger.warning("The route of %s cannot be read: %s", use_case, error)
        return found

    def publish(self, use_case: str, route: Route) -> None:
        """Write the hash field."""
        try:
            stamped = replace(route, at=self._clock.now().isoformat())
            self._client.hset(self._keys.routes, use_case, stamped.encode())
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error

    def reports(self) -> Mapping[str, Report]:
        """Parse the hash and strike off the dead, as well as what cannot be read."""
        oldest_ms = to_us(self._clock.now()) // 1000 - _DEAD_AFTER_MS
        alive, dead = {}, []
        for gateway, raw in self._read(self._keys.gateways).items():
            try:
                report = Report.decode(raw)
            except ValueError:
                dead.append(gateway)
                continue
            if report.at_ms < oldest_ms:
                dead.append(gateway)
            else:
                alive[gateway] = report
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
