"""The product: gateway, TorchServe and handler as the stack starts them, with authentication, routing, log and metrics.

What is not there is what takes no part in an answer: MLflow, Prefect, the deployer and the stream worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from bench.redis_server import connect
from bench.servers.ports import answers, free_port
from bench.servers.service import Service, World
from bench.servers.torchserve import context_and_instances, prepare, register, settings_of, started
from bench.servers.tree import Tree
from bench.servers.version import USE_CASE, VERSION, instances
from bench.workload import Ask, asks
from core.settings import GatewaySettings, Settings
from features.streams import Keys
from serving.routing import Route
from stack.environment import child_environment, single_threaded

NAME = "Evergreen"
PATH = f"/v1/models/{USE_CASE}/predict"
_KEY = "a-key-for-benchmarks"
_HEADERS = {"X-API-Key": _KEY}


@contextmanager
def evergreen(world: World) -> Iterator[Service]:
    """The gateway in front of TorchServe, which has one version, registered as the product registers it."""
    settings = settings_of(world, NAME, gateway=GatewaySettings(port=free_port(), api_key=_KEY))
    archive = prepare(world, settings)
    trees = [started(settings, "TorchServe")]
    try:
        register(settings, archive, workers=settings.torchserve.workers, batch_size=1, max_batch_delay=0)
        _route(world, settings)
        trees.insert(0, _gateway(settings))
        yield Service(NAME, settings.gateway.port, PATH, tuple(trees), headers=_HEADERS, body=_body(settings))
    finally:
        for tree in trees:
            tree.end()


def complete(ask: Ask) -> dict[str, Any]:
    """A call whose instances are complete each."""
    return {"instances": instances(ask)}


def forget_predictions(world: World) -> None:
    """Drop what was logged: no stream worker takes it off while the servers are measured."""
    with connect(world.redis_port) as client:
        for key in client.scan_iter("*:predictions"):
            client.delete(key)


def _route(world: World, settings: Settings) -> None:
    with connect(world.redis_port) as client:
        route = Route(VERSION, 1, at=datetime.now(UTC).isoformat())
        client.hset(Keys(settings.redis.namespace).routes, USE_CASE, route.encode())


def _body(settings: Settings) -> Callable[[Ask], dict[str, Any]]:
    """With what is common given once, where the gateway takes that."""
    question = orjson.dumps(context_and_instances(asks("one")[0]))
    known = answers(settings.gateway.port, PATH, question, _HEADERS)
    return context_and_instances if known else complete


def _gateway(settings: Settings) -> Tree:
    argv = (sys.executable, "-m", "serving.gateway.main")
    env = {**child_environment(settings), **single_threaded()}
    tree = Tree("gateway", argv, settings.home / "gateway.log", env)
    try:
        question = orjson.dumps(complete(asks("one")[0]))
        tree.wait(lambda: answers(settings.gateway.port, PATH, question, _HEADERS))
    except BaseException:
        tree.end()
        raise
    return tree
