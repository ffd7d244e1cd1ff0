"""What the servers share while they are measured: one Redis, one network, and how time is accounted for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import psutil

from bench.redis_server import connect, redis_server
from bench.servers.service import Service, World, wanted_scores
from bench.servers.tree import waits
from bench.workload import model_bytes


@contextmanager
def shared_world() -> Iterator[World]:
    """A Redis set up as the stack's, and the network in a file."""
    with redis_server() as port, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        model.write_bytes(model_bytes())
        yield World(port, folder, model)


@contextmanager
def apart(world: World, service: Service) -> Iterator[None]:
    """The load generator on a core of its own, a service and Redis on the others; nothing changes on a single core.

    What the load generator takes then says nothing of how much the service can do.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        with connect(world.redis_port) as client:
            redis_server = psutil.Process(client.info("server")["process_id"])
        for process in [redis_server, *(each for tree in service.trees for each in tree.processes())]:
            _pin(process, cores[:-1])
        os.sched_setaffinity(0, cores[-1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _pin(process: psutil.Process, cores: Iterable[int]) -> None:
    for thread in process.threads():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, cores)


def cpu_by_process(world: World, service: Service) -> dict[str, float]:
    """CPU seconds so far of every process of a service, and of Redis."""
    found = {name: cpu_s for tree in service.trees for name, cpu_s in tree.cpu_s().items()}
    with connect(world.redis_port) as client:
        times = psutil.Process(client.info("server")["process_id"]).cpu_times()
    return found | {"Redis": times.user + times.system}


def waits_by_process(world: World, service: Service) -> dict[str, float]:
    """How often the threads of every process of a service, and of Redis, have waited for something so far."""
    found: dict[str, float] = {name: n for tree in service.trees for name, n in tree.waits().items()}
    with connect(world.redis_port) as client:
        return found | {"Redis": waits(client.info("server")["process_id"])}


def answer_like(shape: str) -> bytes:
    """JSON as long as the product's answer to a call of a shape."""
    scores = wanted_scores(shape)[0].tolist()
    ids = [f"01JDB3V5M9{i:03d}.ranker.aaaaaaaaaaaaaaaaaaaa" for i in range(len(scores))]
    return orjson.dumps({"predictions": scores, "prediction_ids": ids, "model_version": "1", "degraded": []})
