"""Which version answers for each use case, as the deployer says, and telling the deployer what was picked up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from core.errors import DependencyDown, NoLiveVersion
from serving.gateway.store import Store
from serving.gateway.tallies import Tallies
from serving.gateway_report import Report
from serving.routing import Route

logger = logging.getLogger(__name__)


class InFlight:
    """Instances accepted but not answered yet, by ``use case/version``: a version with none may be drained."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, use_case: str, version: str, n: int) -> None:
        """Count `n` more, or fewer if negative."""
        key = f"{use_case}/{version}"
        self._counts[key] += n
        if not self._counts[key]:
            del self._counts[key]

    @contextmanager
    def counted(self, use_case: str, version: str, n: int) -> Iterator[None]:
        """Count `n` for as long as the block runs."""
        self.add(use_case, version, n)
        try:
            yield
        finally:
            self.add(use_case, version, -n)

    def counts(self) -> dict[str, int]:
        """A copy of what is in flight."""
        return dict(self._counts)


class RouteTable:
    """The routes as last read from the store. What was read stays valid while the store is away.

    Args:
        store: where the deployer writes routes.
        routes_key: the hash use case -> route.
        gateways_key: the hash this gateway reports to.
        gateway_id: this gateway's name there.
        in_flight: what to report as in flight.
        tallies: what to report of how each version does.
    """

    def __init__(
        self,
        store: Store,
        *,
        routes_key: str,
        gateways_key: str,
        gateway_id: str,
        in_flight: InFlight,
        tallies: Tallies,
    ) -> None:
        self._store = store
        self._routes_key = routes_key
        self._gateways_key = gateways_key
        self._gateway_id = gateway_id
        self._in_flight = in_flight
        self._tallies = tallies
        self._routes: dict[str, Route] = {}
        self._reading = asyncio.Lock()
        self._faulty: dict[str, bytes] = {}
        self.was_read = False

    def find(self, use_case: str) -> Route | None:
        """The route of a use case, or None."""
        return self._routes.get(use_case)

    def live(self, use_case: str) -> Route:
        """The route of a use case.

        Raises:
            NoLiveVersion: if there is none.
        """
        route = self._routes.get(use_case)
        if route is None:
            raise NoLiveVersion(use_case)
        return route

    async def refresh(self) -> None:
        """Read the routes, then report them with what is in flight.

        Raises:
            DependencyDown: if the store does not answer; the routes stay as they were.
        """
        async with self._reading:  # an older answer must not overwrite a newer one
            self._routes = self._parse(await self._store.read_hash(self._routes_key))
            self.was_read = True
            await self._store.write_field(self._gateways_key, self._gateway_id, self._report())

    async def watch(self, every_s: float, stop: asyncio.Event) -> None:
        """Refresh until `stop` is set; an outage is logged once when it begins and once when it ends.

        It is stopped by an event, as the Redis client may swallow a cancellation.
        """
        away = False
        while not stop.is_set():
            try:
                await self.refresh()
                if away:
                    logger.info("the route table can be read again")
                away = False
            except Exception as error:  # the top of a task: one that ends would leave the routes standing still
                if not away:
                    unforeseen = None if isinstance(error, DependencyDown) else error
                    message = "the route table cannot be read, the last one stays in force: %s"
                    logger.warning(message, error, exc_info=unforeseen)
                away = True
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await stop.wait()

    async def leave(self) -> None:
        """Take this gateway off the list the deployer waits for."""
        try:
            await self._store.write_field(self._gateways_key, self._gateway_id, None)
        except DependencyDown as error:
            logger.warning("this gateway could not be taken off the list: %s", error)

    def _report(self) -> bytes:
        stamps = {use_case: route.stamp for use_case, route in self._routes.items()}
        wall_ms = time.time_ns() // 1_000_000
        return Report(stamps, self._in_flight.counts(), self._tallies.all(), wall_ms).encode()

    def _parse(self, found: dict[str, bytes]) -> dict[str, Route]:
        routes = {}
        for use_case, raw in found.items():
            try:
                routes[use_case] = Route.decode(raw)
            except ValueError as error:
                if self._faulty.get(use_case) != raw:
                    logger.error("the route of %s cannot be understood and is ignored: %s", use_case, error)
                self._faulty[use_case] = raw
        return routes
