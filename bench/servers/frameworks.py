"""The serving frameworks: how each is started, in the ways that were tried."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.peers import ROOT, peer_python
from bench.redis_server import connect
from bench.servers.by_hand import UVICORN, fill, surroundings
from bench.servers.ports import answers, free_port
from bench.servers.service import Service, World, context_and_ads, predictions
from bench.servers.tree import Tree
from bench.servers.v2 import batched_tensors, first_output, tensors
from bench.workload import Ask, asks
from core.settings import inherited_environment

Start = Callable[[World], AbstractContextManager[Service]]


@dataclass(frozen=True)
class _Plan:
    """How to start a framework, once its environment is there.

    Args:
        argv: from a port, program and arguments.
        path: of the call.
        env: variables on top of those of every peer.
        cwd: folder to run in.
        body: what it is asked.
        scores: what it answered.
        warm_s: as for `Service`.
        pauses: as for `Service`.
    """

    argv: Callable[[int], list[str]]
    path: str = "/predict"
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    body: Callable[[Ask], Any] = context_and_ads
    scores: Callable[[bytes], Any] = predictions
    warm_s: float = 0.5
    pauses: bool = True


def _started(name: str, prepare: Callable[[World, Path], _Plan]) -> Start:
    """A way to start a framework."""

    @contextmanager
    def start(world: World) -> Iterator[Service]:
        with connect(world.redis_port) as client:
            fill(client)
        home, port = world.home(name), free_port()
        plan = prepare(world, home)
        env = {"PYTHONPATH": str(ROOT), **surroundings(world), "BENCH_PORT": str(port), **plan.env}
        tree = Tree(name, plan.argv(port), home / "log", env, plan.cwd)
        try:
            question = orjson.dumps(plan.body(asks("one")[0]))
            tree.wait(lambda: answers(port, plan.path, question))
            yield Service(
                name, port, plan.path, (tree,), body=plan.body, scores=plan.scores, warm_s=plan.warm_s,
                pauses=plan.pauses,
            )  # fmt: skip
        finally:
            tree.end()

    return start


def _bentoml(app: str, body: Callable[[Ask], Any], scores: Callable[[bytes], Any]) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        python = str(peer_python("bentoml"))
        argv = [python, "-m", "bentoml", "serve", f"bench.servers.{app}:Ranker", "--host", "127.0.0.1"]
        env = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
        return _Plan(lambda port: [*argv, "--port", str(port)], env=env, body=body, scores=scores)

    return prepare


def _litserve(batch: int, workers: int, servers: int, fast: bool) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        argv = [str(peer_python("litserve")), "-m", "bench.servers.app_litserve"]
        options = {"BATCH": batch, "WORKERS": workers, "API_SERVERS": servers, "FAST": int(fast)}
        env = {f"BENCH_{name}": str(value) for name, value in options.items()}
        return _Plan(lambda port: argv, env=env)

    return prepare


def _ray(replicas: int, haproxy: bool) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        argv = [str(peer_python("ray")), "-m", "bench.servers.app_ray"]
        env = {
            "BENCH_REPLICAS": str(replicas),
            "BENCH_TEMP": str(home / "ray"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }
        if haproxy:
            env |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
        # after a pause its controller starts HAProxy anew, which cuts all connections once
        return _Plan(lambda port: argv, env=env, warm_s=5.0)

    return prepare


def _mlserver(workers: int) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        # beside the interpreter: the package has no module to run
        argv = [str(peer_python("mlserver").with_name("mlserver")), "start", str(home)]
        model = {"name": "ranker", "implementation": "bench.servers.app_mlserver.Ranker"}
        (home / "model-settings.json").write_text(json.dumps(model))
        (home / "settings.json").write_text(json.dumps({"parallel_workers": workers, "debug": False}))
        env = {
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_GRPC_PORT": str(free_port()),
            "MLSERVER_METRICS_PORT": str(free_port()),
        }

        def with_port(port: int) -> list[str]:
            settings = json.loads((home / "settings.json").read_text()) | {"http_port": port}
            (home / "settings.json").write_text(json.dumps(settings))
            return argv

        return _Plan(with_port, "/v2/models/ranker/infer", env, body=tensors, scores=first_output)

    return prepare


def _mlflow(workers: int) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        model, env = home / "model", {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}
        if not model.exists():
            write = [sys.executable, "-m", "bench.servers.app_mlflow", str(model)]
            subprocess.run(write, check=True, env={**inherited_environment(), **env}, cwd=home, capture_output=True)
        argv = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
        argv += ["--host", "127.0.0.1", "--workers", str(workers)]
        env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"  # it looks for uvicorn there
        return _Plan(
            lambda port: [*argv, "--port", str(port)], "/invocations", env, home, body=_inputs, scores=predictions
        )

    return prepare


def _feast(way: str) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        python = str(peer_python("feast"))
        env = {"BENCH_STORE": str(home), "BENCH_WAY": way, "FEAST_USAGE": "False"}
        told = {**inherited_environment(), **surroundings(world), **env}
        subprocess.run([python, "-m", "bench.servers.app_feast"], check=True, env=told, cwd=ROOT, capture_output=True)
        argv = [python, "-m", "uvicorn", "bench.servers.app_feast:app", "--workers", "2", *UVICORN]
        return _Plan(lambda port: [*argv, "--port", str(port)], env=env)

    return prepare


def _triton(workers: int) -> Callable[[World, Path], _Plan]:
    def prepare(world: World, home: Path) -> _Plan:
        argv = [str(peer_python("triton")), "-m", "bench.servers.app_triton"]
        # its stub carries another Python 3.11 than this machine, under which its shared memory does not start
        env = {"BENCH_WORKERS": str(workers), "PYTRITON_HOME": str(home), "PYTRITON_NO_TENSORSTORE": "1"}
        return _Plan(
            lambda port: argv, "/v2/models/ranker/infer", env, body=batched_tensors, scores=first_output,
            pauses=False,  # its server ends by a segmentation fault when it goes on
        )  # fmt: skip

    return prepare


def _inputs(ask: Ask) -> dict[str, Any]:
    return {"inputs": {"user": [ask.user], "ads": [list(ask.ads)], "fields": [list(ask.fields)]}}


FRAMEWORKS: dict[str, dict[str, Start]] = {
    "BentoML": {
        "two workers": _started(
            "BentoML, two workers", _bentoml("app_bentoml", lambda ask: {"call": context_and_ads(ask)}, predictions)
        ),
        "two workers, batching": _started(
            "BentoML, two workers, batching",
            _bentoml(
                "app_bentoml_batched",
                lambda ask: {"calls": [context_and_ads(ask)]},
                lambda body: orjson.loads(body)[0],
            ),
        ),
    },
    "LitServe": {
        "one worker": _started("LitServe, one worker", _litserve(1, 1, 1, True)),
        "batching": _started("LitServe, batching", _litserve(64, 1, 1, True)),
        "batching, two of each": _started("LitServe, batching, two of each", _litserve(64, 2, 2, True)),
        "batching, no ZeroMQ": _started("LitServe, batching, no ZeroMQ", _litserve(64, 1, 1, False)),
    },
    "Ray Serve": {
        "HAProxy, two replicas": _started("Ray Serve, HAProxy, two replicas", _ray(2, haproxy=True)),
        "two replicas": _started("Ray Serve, two replicas", _ray(2, haproxy=False)),
    },
    "MLServer": {
        "no workers": _started("MLServer, no workers", _mlserver(0)),
        "two workers": _started("MLServer, two workers", _mlserver(2)),
    },
    "MLflow": {
        "two workers": _started("MLflow, two workers", _mlflow(2)),
        "one worker": _started("MLflow, one worker", _mlflow(1)),
    },
    "Feast": {
        "sync": _started("Feast and FastAPI, two workers", _feast("sync")),
        "async": _started("Feast and FastAPI, two workers, async", _feast("async")),
    },
    "Triton": {
        "one instance": _started("Triton, one instance", _triton(1)),
        "two instances": _started("Triton, two instances", _triton(2)),
    },
}

# which way was the fastest with 64 connections, one instance a call
BEST = {
    "BentoML": "two workers, batching",
    "LitServe": "batching",
    "Ray Serve": "HAProxy, two replicas",
    "MLServer": "no workers",
    "MLflow": "two workers",
    "Feast": "sync",
    "Triton": "one instance",
}
