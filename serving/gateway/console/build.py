"""Putting the console together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial

from core.errors import DependencyDown
from core.settings import Settings
from core.use_case import UseCase
from serving.gateway.access_control import AccessControl
from serving.gateway.console.acting import Actions
from serving.gateway.console.gathering import Gatherer
from serving.gateway.console.rendering import Renderer
from serving.gateway.console.routes import Console
from serving.gateway.console.sessions import Sessions
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.route_table import RouteTable
from serving.wakes import RedisWakes


def build_console(
    settings: Settings,
    use_cases: Mapping[str, UseCase],
    routes: RouteTable,
    metrics: GatewayMetrics,
    control: AccessControl,
) -> Console:
    """The console of one gateway process; it connects to nothing before somebody looks."""
    gatherer = Gatherer(settings, use_cases, control.ledger, routes, metrics)
    return Console(
        gatherer,
        Actions(settings, control.ledger, control.audit, gatherer.aliases, gatherer.flows, partial(_wake, settings)),
        control.access,
        control.audit,
        Sessions(settings.signing_secret(), settings.console.session_s),
        Renderer(settings),
    )


def _wake(settings: Settings) -> None:
    """Tell the deployer to look now; it finds out by itself if that fails."""
    with suppress(DependencyDown), closing(RedisWakes.connect(settings)) as wakes:
        wakes.wake()
