"""Asking everything a page is made from: in threads, bounded in time, and remembered for a few seconds.

A dependency that is away costs its part of the page, and nobody else anything: traffic never waits for the console.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import anyio
from sqlalchemy.exc import SQLAlchemyError

from core.clock import SystemClock
from core.errors import EvergreenError
from core.ledger import Ledger
from core.settings import Settings
from core.use_case import UseCase
from registry.alias_client import AliasClient
from serving.feature_status import FeatureStatus, read_features
from serving.gateway.console.flow_runs import FlowRuns
from serving.gateway.console.latency import of_buckets
from serving.gateway.console.reports import list_reports
from serving.gateway.console.state import (
    MATERIALIZE,
    MONITOR,
    RETRAIN,
    FlowFacts,
    Found,
    LedgerFacts,
    Links,
    RegistryFacts,
    State,
)
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.route_table import RouteTable
from serving.permission import KIND as PROMOTION
from serving.standing import read_standing

T = TypeVar("T")
_FRESH_S, _AWAY_S = 2.0, 5.0
_LOOKS, _NEWEST, _FEW, _ALERTS = 120, 150, 20, 200
_THREADS = 2  # for each source, so that one that hangs keeps none from another


class Gatherer:
    """Gathers what is known.

    Args:
        settings: where everything is.
        use_cases: by name.
        ledger: of decisions.
        routes: what this gateway follows.
        metrics: what it has measured.
        timeout_s: how long one answer may take.
    """

    def __init__(
        self,
        settings: Settings,
        use_cases: Mapping[str, UseCase],
        ledger: Ledger,
        routes: RouteTable,
        metrics: GatewayMetrics,
        timeout_s: float = 4.0,
    ) -> None:
        self.settings, self.use_cases, self.links = settings, use_cases, Links.of(settings)
        self.ledger = ledger
        self.aliases = AliasClient(settings.mlflow_url, timeout_s)
        self.flows = FlowRuns(settings.prefect_api_url, timeout_s)
        self._routes, self._metrics, self._timeout_s = routes, metrics, timeout_s
        self._threads: dict[str, anyio.CapacityLimiter] = {}
        self._known: dict[str, tuple[float, Found[Any]]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def state(self, name: str) -> State:
        """Everything about a use case."""
        ledger, features, registry, flows, reports = await asyncio.gather(
            self.find(f"ledger {name}", lambda: read_ledger(self.ledger, name)),
            self.find("redis", self._read_features),
            self.find(f"mlflow {name}", lambda: read_registry(self.aliases, name)),
            self.find("prefect", lambda: read_flows(self.flows)),
            self.find(f"reports {name}", lambda: list_reports(self.settings.home / "reports" / name)),
        )
        buckets = await self.in_thread(lambda: self._metrics.stage_buckets(name))
        return State(
            use_case=self.use_cases[name], now=SystemClock().now(), is_replay=self.settings.clock == "event",
            ledger=ledger, features=features, registry=registry, flows=flows, route=self._routes.find(name),
            latency={stage: of_buckets(found) for stage, found in buckets.items()}, reports=reports.value or (),
            links=self.links,
        )  # fmt: skip

    async def find(self, key: str, read: Callable[[], T]) -> Found[T]:
        """What `read` says, or said a moment ago; one thread asks at a time, the others wait for its answer."""
        async with self._asking.setdefault(key, asyncio.Lock()):
            until, known = self._known.get(key, (0.0, None))
            if known is not None and time.monotonic() < until:
                return cast(Found[T], known)
            found = await self.ask(read, key.partition(" ")[0])
            self._known[key] = (time.monotonic() + (_AWAY_S if found.problem else _FRESH_S), found)
            return found

    async def ask(self, read: Callable[[], T], source: str = "ledger") -> Found[T]:
        """What `read` says now, within a few seconds."""
        try:
            with anyio.fail_after(self._timeout_s):
                return Found(await self.in_thread(read, source))
        except TimeoutError:
            return Found(None, f"there was no answer within {self._timeout_s:g} s")
        except EvergreenError as error:
            return Found(None, f"{error}".partition("does not answer: ")[2] or f"{error}")
        except SQLAlchemyError as error:  # the driver's own words may name hosts and users
            return Found(None, type(error).__name__)

    async def in_thread(self, work: Callable[[], T], source: str = "page") -> T:
        """Do what blocks in one of the console's few threads; left to itself if nobody waits for it any more."""
        limiter = self._threads.setdefault(source, anyio.CapacityLimiter(_THREADS))
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)

    def forget(self) -> None:
        """Ask everything anew the next time: something was just changed."""
        self._known.clear()

    def close(self) -> None:
        """Give the connections back."""
        self.aliases.close()
        self.flows.close()

    def _read_features(self) -> FeatureStatus:
        return read_features(self.settings, self.use_cases.values())


def read_ledger(ledger: Ledger, name: str) -> LedgerFacts:
    """What the ledger says of a use case; nothing before anything was ever decided."""
    if not ledger.is_made():
        return LedgerFacts()
    triggers = ledger.entries(name, kind="trigger", limit=_LOOKS)
    return LedgerFacts(
        deployments=tuple(ledger.deployments(name)),
        standing=read_standing(ledger, name),
        looks=tuple(entry for entry in triggers if entry.evidence.get("facts") or "rows" in entry.evidence),
        promotions=tuple(ledger.entries(name, kind=PROMOTION, limit=_NEWEST)),
        gates=tuple(ledger.entries(name, kind="gate", limit=_FEW)),
        deliveries=tuple(ledger.entries(name, kind="delivery", limit=_FEW)),
        alerts=tuple(ledger.entries(name, kind="alert", limit=_ALERTS)),
        audits=tuple(ledger.entries(name, kind="audit", limit=1)),
        aftermaths=tuple(ledger.entries(name, kind="aftermath", limit=1)),
        newest=tuple(ledger.entries(name, limit=_NEWEST)),
    )


def read_registry(client: AliasClient, name: str) -> RegistryFacts:
    """What MLflow says of a use case."""
    return RegistryFacts(client.desired(name), {each.version: each.run_id for each in client.versions(name)})


def read_flows(flows: FlowRuns) -> FlowFacts:
    """What Prefect says."""
    scheduled = {deployment: tuple(flows.scheduled(deployment)) for deployment in (RETRAIN, MONITOR, MATERIALIZE)}
    return FlowFacts(scheduled, tuple(flows.newest(RETRAIN)))
