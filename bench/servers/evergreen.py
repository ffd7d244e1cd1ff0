"""The product: gateway, TorchServe and handler as the stack starts them, with authentication, routing, log and metrics.

What is not there is what takes no part in an answer: MLflow, Prefect, the deployer and the stream worker.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from bench.redis_server import connect
from bench.servers.ports import answers, free_port
from bench.servers.service import Service, World
from bench.servers.torchserve import prepare, settings_of, started, wait_for_workers
from bench.servers.tree import Tree
from bench.servers.version import USE_CASE, VERSION, instances
from bench.workload import Ask, asks
from core.settings import GatewaySettings, Settings
from features.streams import Keys
from serving.routing import Route
from serving.torchserve.host import TorchServeHost
from stack.environment import child_environment, single_threaded

NAME = "Evergreen"
ALONE = "Evergreen's gateway alone"
PATH = f"/v1/models/{USE_CASE}/predict"
_KEY = "a-key-for-benchmarks"
_HEADERS = {"X-API-Key": _KEY}


@contextmanager
def evergreen(world: World) -> Iterator[Service]:
    """The gateway in front of TorchServe, which has one version, registered as the product registers it."""
    settings = _settings(world, NAME)
    archive = prepare(world, settings)
    trees = [started(settings, "TorchServe")]
    try:
        host = TorchServeHost(settings)
        host.register(USE_CASE, VERSION, archive)
        host.close()
        wait_for_workers(settings)
        _route(world, settings)
        trees.insert(0, _gateway(settings, "serving.gateway.main"))
        yield _service(NAME, settings, trees)
    finally:
        for tree in trees:
            tree.end()


@contextmanager
def gateway_alone(world: World) -> Iterator[Service]:
    """The gateway with a model host that answers at once, and so with other scores."""
    settings = _settings(world, ALONE)
    _route(world, settings)
    tree = _gateway(settings, "bench.servers.app_gateway")
    try:
        yield replace(_service(ALONE, settings, [tree]), scores=None)
    finally:
        tree.end()


def _settings(world: World, name: str) -> Settings:
    return settings_of(world, name, gateway=GatewaySettings(port=free_port(), api_key=_KEY))


def _service(name: str, settings: Settings, trees: list[Tree]) -> Service:
    return Service(name, settings.gateway.port, PATH, tuple(trees), headers=_HEADERS, body=body)


def body(ask: Ask) -> dict[str, Any]:
    """What the product is asked, with what is common given once."""
    if len(ask.ads) == 1:
        return {"instances": instances(ask)}
    return {"context": ask.context, "instances": [{"ad": ad} for ad in ask.ads]}


def forget_predictions(world: World) -> None:
    """Drop what was logged: no stream worker takes it off while the servers are measured."""
    with connect(world.redis_port) as client:
        for key in client.scan_iter("*:predictions"):
            client.delete(key)


def _route(world: World, settings: Settings) -> None:
    with connect(world.redis_port) as client:
        route = Route(VERSION, 1, at=datetime.now(UTC).isoformat())
        client.hset(Keys(settings.redis.namespace).routes, USE_CASE, route.encode())


def _gateway(settings: Settings, module: str) -> Tree:
    argv = (sys.executable, "-m", module)
    env = {**child_environment(settings), **single_threaded()}
    tree = Tree("gateway", argv, settings.home / "gateway.log", env)
    try:
        question = orjson.dumps(body(asks("one")[0]))
        tree.wait(lambda: answers(settings.gateway.port, PATH, question, _HEADERS))
    except BaseException:
        tree.end()
        raise
    return tree
