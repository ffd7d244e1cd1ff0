"""Putting the gateway together: what a process needs is built once, here, and passed down."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from core.errors import DependencyDown
from core.settings import Settings
from core.use_case import EventSource, UseCase
from features.definitions import key_groups
from features.streams import Keys
from serving.gateway.access_control import AccessControl
from serving.gateway.access_log import AccessLog
from serving.gateway.asgi import Gateway
from serving.gateway.coalescer import Coalescer, Limits
from serving.gateway.console.build import build_console
from serving.gateway.console.routes import Console
from serving.gateway.door import Door, by_path
from serving.gateway.endpoints import Events, Feedback, Predict
from serving.gateway.exchange import Endpoint
from serving.gateway.failover import FailoverCaller
from serving.gateway.host_caller import HostCaller
from serving.gateway.intake import Intake
from serving.gateway.magnitudes import within_resolution
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import ModelCaller
from serving.gateway.open_inference.asgi import OpenInferencePages
from serving.gateway.open_inference.openapi import describe_open_inference
from serving.gateway.open_inference.predicting import PredictorScorer
from serving.gateway.open_inference.service import OpenInference
from serving.gateway.openapi import describe, now_parameters
from serving.gateway.pages import build_pages, require_ready
from serving.gateway.predictor import Predictor
from serving.gateway.request_clock import EventTime, RequestClock, WallTime
from serving.gateway.route_table import InFlight, RouteTable
from serving.gateway.store import RedisStore, Store
from serving.gateway.tallies import Tallies
from serving.gateway.tracing import Tracing, build_tracing
from serving.gateway.watching import Watch
from serving.gateway.webhook import MlflowWebhook
from serving.keys.sql_store import SqlKeyStore
from serving.keys.store import KeyStore, MemoryKeyStore
from serving.open_inference.server import require_host_settings
from serving.torchserve.tokens import Tokens


@dataclass(frozen=True)
class Outside:
    """What the gateway reaches over the network; tests pass memory versions.

    Args:
        store: streams and routes.
        caller: makes the model host's caller, inside the running event loop.
        clock: tells now for a request.
        keys: holds the API keys.
    """

    store: Store
    caller: Callable[[], ModelCaller]
    clock: RequestClock
    keys: KeyStore = field(default_factory=MemoryKeyStore)


def real_outside(settings: Settings) -> Outside:
    """Redis, the model host and the clock as the settings say.

    Raises:
        SettingsError: if the model host is another server than TorchServe, and is not described.
    """
    return Outside(
        store=RedisStore(settings.redis_url, cluster=settings.redis.cluster),
        caller=_caller(settings),
        clock=EventTime() if settings.clock == "event" else WallTime(),
        keys=SqlKeyStore(settings.ledger_url),
    )


def _caller(settings: Settings) -> Callable[[], ModelCaller]:
    if settings.host.kind == "torchserve":
        tokens = Tokens(settings.home / "torchserve" / "key_file.json")
        return lambda: HostCaller(settings.torchserve_inference_url, tokens.inference)
    from serving.open_inference.caller import OpenInferenceCaller  # with onnx and the feature code: not for TorchServe

    require_host_settings(settings)
    return lambda: OpenInferenceCaller(settings)


def build_gateway(settings: Settings, use_cases: Mapping[str, UseCase], outside: Outside) -> Gateway:
    """The ASGI application of one gateway process.

    Args:
        settings: limits, addresses and the API key.
        use_cases: what is served, by name.
        outside: what is reached over the network.
    """
    metrics, in_flight, keys = GatewayMetrics(), InFlight(), Keys(settings.redis.namespace)
    tallies = Tallies(metrics)
    tracing, access_log = build_tracing(settings), AccessLog(settings.gateway.slow_s)
    routes = RouteTable(
        outside.store,
        routes_key=keys.routes,
        gateways_key=keys.gateways,
        gateway_id=f"{os.getpid()}-{secrets.token_hex(4)}",
        in_flight=in_flight,
        tallies=tallies,
    )
    caller = _LateCaller(outside.caller)
    limits = Limits(
        max_pending=settings.gateway.max_pending,
        max_wait_s=settings.gateway.max_wait_s,
        timeout_s=settings.gateway.timeout_s,
        max_calls=settings.torchserve.workers if settings.host.kind == "torchserve" else settings.host.threads,
        same_now=settings.clock == "event",
    )
    failover = FailoverCaller(caller, routes, in_flight, tallies, metrics)
    coalescer = Coalescer(failover, in_flight, limits, metrics)
    stream = settings.stream
    intake = Intake(outside.store, keys, partitions=stream.partitions, max_entries=stream.max_entries)
    declared = list(use_cases.values())
    sources = {s.name: within_resolution(s, declared) for use_case in declared for s in use_case.sources}
    control = AccessControl(settings, outside.keys, outside.store, metrics.registry, list(use_cases))
    console = build_console(settings, use_cases, routes, metrics, control) if settings.console.enabled else None
    lifespan = _lifespan(routes, caller, outside.store, settings.gateway.route_poll_s, control, tracing, console)
    pages = build_pages(use_cases, outside.store, routes, metrics, control, lifespan)
    if console is not None:
        pages.include_router(console.routes())
    webhook = MlflowWebhook(
        outside.store, keys, secret=settings.webhook_secret(), tolerance_s=settings.webhook.tolerance_s
    )
    pages.include_router(webhook.routes())
    _describe_all(pages, settings, use_cases, sources)
    most, secret = settings.gateway.max_events, settings.signing_secret()

    predictors = {
        name: Predictor(
            use_case,
            secret=secret,
            routes=routes,
            coalescer=coalescer,
            metrics=metrics,
            access_log=access_log,
            mirror_below=settings.gateway.max_pending // 4,
        )
        for name, use_case in use_cases.items()
    }

    def endpoints_of(name: str, use_case: UseCase) -> dict[str, Endpoint]:
        predict = Predict(
            use_case,
            predictor=predictors[name],
            most=settings.gateway.max_instances,
            metrics=metrics,
            watch=Watch(Predict.route, name, tracing, access_log),
        )
        return {"predict": predict, "feedback": Feedback(name, secret=secret, most=most, intake=intake)}

    by_source = {
        name: Events(
            source, readers=_readers(declared, name), groups=key_groups(declared, name), most=most, intake=intake
        )
        for name, source in sources.items()
    }
    open_inference = OpenInference(
        use_cases,
        PredictorScorer(predictors, routes, metrics, partial(require_ready, outside.store, routes)),
        most=settings.gateway.max_instances,
        max_body_bytes=settings.gateway.max_body_bytes,
    )
    by_use_case = {name: endpoints_of(name, use_case) for name, use_case in use_cases.items()}
    door = Door(
        by_path(by_use_case, by_source.items(), open_inference.infer),
        clock=outside.clock,
        metrics=metrics,
        access=control.access,
        max_body_bytes=settings.gateway.max_body_bytes,
    )
    return Gateway(
        door,
        use_cases=use_cases,
        sources=sources,
        open_inference=OpenInferencePages(open_inference, door, outside.clock),
        pages=pages,
        metrics=metrics,
    )


def _readers(use_cases: Iterable[UseCase], source: str) -> list[str]:
    return [use_case.name for use_case in use_cases if any(known.name == source for known in use_case.sources)]


class _LateCaller:
    """A caller that is made when the event loop runs, which is after the application is put together."""

    def __init__(self, make: Callable[[], ModelCaller]) -> None:
        self._make = make
        self._caller: ModelCaller | None = None

    async def score(self, use_case: str, version: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._caller is None:
            self._caller = self._make()
        return await self._caller.score(use_case, version, body)

    async def close(self) -> None:
        if self._caller is not None:
            await self._caller.close()


def _lifespan(
    routes: RouteTable,
    caller: ModelCaller,
    store: Store,
    poll_s: float,
    control: AccessControl,
    tracing: Tracing,
    console: Console | None,
) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with suppress(DependencyDown):  # /readyz tells; the watcher keeps trying
            await routes.refresh()
        stop = asyncio.Event()
        watcher = asyncio.create_task(routes.watch(poll_s, stop))
        async with control.watched():
            yield
        stop.set()
        await watcher
        await routes.leave()
        await caller.close()
        await store.close()
        tracing.close()
        if console is not None:
            console.close()

    return lifespan


def _describe_all(
    pages: FastAPI, settings: Settings, use_cases: Mapping[str, UseCase], sources: Mapping[str, EventSource]
) -> None:
    def openapi() -> dict[str, Any]:
        if pages.openapi_schema is None:
            document = get_openapi(title=pages.title, version=pages.version, routes=pages.routes)
            pages.openapi_schema = describe(
                document,
                use_cases,
                sources,
                max_instances=settings.gateway.max_instances,
                max_events=settings.gateway.max_events,
                needs_key=bool(settings.gateway.api_key.get_secret_value()) or not settings.gateway.is_loopback,
                needs_now=settings.clock == "event",
            )
            describe_open_inference(
                pages.openapi_schema,
                use_cases,
                max_instances=settings.gateway.max_instances,
                parameters=now_parameters(settings.clock == "event"),
            )
        return pages.openapi_schema

    pages.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
