"""TorchServe alone, with the product's handler: clients ask its inference API themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.redis_server import connect
from bench.servers.ports import free_port
from bench.servers.service import Service, World
from bench.servers.tree import Tree
from bench.servers.version import USE_CASE, VERSION, publish_features, write_models, write_version
from bench.workload import Ask
from core.settings import RedisSettings, Settings, TorchserveSettings
from serving.torchserve.configuration import key_file, launch, store
from serving.torchserve.packer import pack
from serving.torchserve.tokens import Tokens

PATH = f"/predictions/{USE_CASE}/{VERSION}"
_READY_S = 120.0
_LOOK_AGAIN_S = 0.05


def settings_of(world: World, name: str, **groups: Any) -> Settings:
    """Settings of a stack in a folder of its own, on free ports, in the common Redis."""
    home = world.home(name)
    torchserve = TorchserveSettings(
        inference_port=free_port(), management_port=free_port(), metrics_port=free_port(), heap_mb=512
    )
    redis = RedisSettings(url=f"redis://127.0.0.1:{world.redis_port}/0", namespace=home.name)
    models = write_models(home / "models")
    return Settings(home=home, models_dir=models, redis=redis, **{"torchserve": torchserve, **groups})


def prepare(world: World, settings: Settings) -> Path:
    """Put the features online and the version into TorchServe's store; the archive."""
    publish_features_of(world, settings)
    folder = write_version(settings.home / "version", world.model)
    return pack(folder, store(settings), use_case=USE_CASE, version=VERSION)


def publish_features_of(world: World, settings: Settings) -> None:
    """Put the features online under the settings' namespace."""
    with connect(world.redis_port) as client:
        publish_features(client, settings.redis.namespace, settings.home)


def started(settings: Settings, name: str) -> Tree:
    """TorchServe as the product starts it, once it answers; without any version."""
    plan = launch(settings)
    tree = Tree(name, plan.argv, settings.home / "torchserve.log", plan.env, plan.cwd)
    try:
        tree.wait(lambda: _is_healthy(settings))
    except BaseException:
        tree.end()
        raise
    return tree


@contextmanager
def torchserve(world: World, workers: int = 1) -> Iterator[Service]:
    """TorchServe with its own batching: up to 64 calls, waiting at most 1 ms for them."""
    name = f"TorchServe alone, {workers} worker{'s' if workers > 1 else ''}"
    settings = settings_of(world, name)
    archive = prepare(world, settings)
    tree = started(settings, name)
    try:
        _register(settings, archive, workers)
        key = Tokens(key_file(settings)).inference()
        yield Service(
            name,
            settings.torchserve.inference_port,
            PATH,
            (tree,),
            headers={"Authorization": f"Bearer {key}"},
            body=_body,
        )
    finally:
        tree.end()


def wait_for_workers(settings: Settings) -> None:
    """Return once all workers of the version are ready.

    Raises:
        RuntimeError: if they are not within two minutes.
    """
    until = time.monotonic() + _READY_S
    with _management(settings) as client:
        while True:
            described = client.get(f"/models/{USE_CASE}/{VERSION}").raise_for_status().json()[0]
            states = [worker["status"] for worker in described["workers"]]
            if states == ["READY"] * described["minWorkers"]:
                return
            if time.monotonic() > until:
                raise RuntimeError(f"TorchServe's workers are not ready: {described}")
            time.sleep(_LOOK_AGAIN_S)


def _register(settings: Settings, archive: Path, workers: int) -> None:
    """Load an archive, with TorchServe's own batching."""
    parameters = {
        "url": archive.name,
        "model_name": USE_CASE,
        "initial_workers": workers,
        "synchronous": "true",
        "batch_size": 64,
        "max_batch_delay": 1,
    }
    with _management(settings) as client:
        client.post("/models", params=parameters).raise_for_status()
    wait_for_workers(settings)


def _management(settings: Settings) -> httpx.Client:
    headers = {"Authorization": f"Bearer {Tokens(key_file(settings)).management()}"}
    return httpx.Client(base_url=settings.torchserve_management_url, headers=headers, timeout=_READY_S)


def _body(ask: Ask) -> dict[str, Any]:
    """A call in the form that gateways use: what is common is sent once, and the ids need not be sent back."""
    at_us = time.time_ns() // 1000
    instances = [{"ad": ad} for ad in ask.ads]
    return {"instances": instances, "calls": [[len(instances), at_us, "bench", ask.context, True]]}


def _is_healthy(settings: Settings) -> bool:
    headers = {"Authorization": f"Bearer {Tokens(key_file(settings)).inference()}"}
    return httpx.get(f"{settings.torchserve_inference_url}/ping", headers=headers).is_success
