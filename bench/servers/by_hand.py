"""Services written by hand: FastAPI, and an application that does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import redis

from bench.peers import peer_python
from bench.redis_server import connect
from bench.servers.ports import answers, free_port
from bench.servers.service import Service, World
from bench.servers.tree import Tree
from bench.workload import asks, stored

UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning", "--backlog", "4096")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def fill(client: redis.Redis) -> None:
    """Store the features as the hand-written services read them: 20 float32 in a row under one key."""
    for view in ("user", "ad"):
        client.mset({f"bare:{view}:{i}": row.tobytes() for i, row in enumerate(stored(view))})


def surroundings(world: World) -> dict[str, str]:
    """Variables from which a peer's process learns what it needs."""
    return {"BENCH_REDIS_PORT": str(world.redis_port), "BENCH_MODEL": str(world.model), **ONE_THREAD}


@contextmanager
def fastapi(world: World, workers: int = 2) -> Iterator[Service]:
    """FastAPI under uvicorn, with some worker processes."""
    with connect(world.redis_port) as client:
        fill(client)
    name = f"FastAPI, {workers} workers"
    with _uvicorn(world, name, "bench.servers.app_fastapi:app", workers, surroundings(world)) as (tree, port):
        yield Service(name, port, "/predict", (tree,))


@contextmanager
def echo(world: World, answer: bytes) -> Iterator[Service]:
    """A bare ASGI application under the same server, in one process."""
    env = {"BENCH_ANSWER": answer.decode()}
    with _uvicorn(world, "bare ASGI echo", "bench.servers.app_echo:app", 1, env) as (tree, port):
        yield Service("bare ASGI echo", port, "/predict", (tree,), scores=None)


@contextmanager
def _uvicorn(world: World, name: str, app: str, workers: int, env: dict[str, str]) -> Iterator[tuple[Tree, int]]:
    port = free_port()
    argv = [str(peer_python("rest")), "-m", "uvicorn", app, "--port", str(port), "--workers", str(workers), *UVICORN]
    tree = Tree(name, argv, world.home(name) / "log", env)
    try:
        tree.wait(lambda: answers(port, "/predict", orjson.dumps({**asks("one")[0].context, "ads": [1]})))
        yield tree, port
    finally:
        tree.end()
