"""Asking a version that nobody is routed to yet how long it takes to answer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import DeploymentError
from core.settings import Settings
from serving.model_host import ModelHost
from serving.smoke import smoke_fault, smoke_request
from serving.torchserve.configuration import store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.packer import pack, read_smoke
from serving.torchserve.seals import ArchiveSeals

STAGED = "staged"
_ROUNDS = 60
_WARM_UP = 5


@dataclass(frozen=True)
class Stage:
    """Where a version is tried out: the host that serves, and the folder it loads from.

    Args:
        host: where versions run.
        store: folder of archives that the host loads from.
    """

    host: ModelHost
    store: Path


@contextmanager
def open_stage(settings: Settings) -> Iterator[Stage | None]:
    """TorchServe, if the settings name it; None if versions run in a server elsewhere, which nobody stages in."""
    if settings.host.kind != "torchserve":
        yield None
        return
    # calls come one after the other, so one worker is enough, and starts in half the time
    alone = settings.torchserve.model_copy(update={"workers": 1})
    host = TorchServeHost(settings.model_copy(update={"torchserve": alone}))
    try:
        yield Stage(host, store(settings))
    finally:
        host.close()


def measure_latency(
    stage: Stage, folder: Path, *, use_case: str, champion: str, rounds: int = _ROUNDS
) -> Mapping[str, Any]:
    """Load a version beside the champion, ask both the version's recorded requests in turn, and let go of it.

    The turns alternate, so that whatever else the machine does meanwhile slows both. No route ever names the staged
    version; should this process be killed, the deployer unloads it as it does whatever nobody asks for.

    Args:
        stage: where.
        folder: of the version, as written for the registry.
        use_case: whose.
        champion: the version that is loaded and answers clients.
        rounds: calls of each that are counted.

    Returns:
        ``ratio`` of the medians, ``challenger_ms`` and ``champion_ms``, ``requests`` in a call and ``rounds``; or
        ``skipped`` with the reason, where there is no champion to compare with.

    Raises:
        DependencyDown: if the host does not answer.
        DeploymentError: if the version cannot be loaded, or does not answer as it should.
    """
    if champion not in stage.host.loaded().get(use_case, set()):
        return {"skipped": f"the champion {champion} is not loaded in the model host"}
    archive = pack(folder, stage.store, use_case=use_case, version=STAGED)
    seals = ArchiveSeals(stage.store.with_name("seals"))
    try:
        seals.seal(archive)
        stage.host.register(use_case, STAGED, archive)
        recorded = read_smoke(archive)
        body, n = smoke_request(recorded), len(recorded["instances"])
        fault = smoke_fault(stage.host.predict(use_case, STAGED, body), version=STAGED, n=n)
        if fault is not None:
            raise DeploymentError(f"{use_case}, staged: {fault}. Retrain.")
        return _measured(stage.host, use_case, champion, body, rounds) | {"requests": n, "rounds": rounds}
    finally:
        stage.host.unregister(use_case, STAGED)
        archive.unlink(missing_ok=True)
        seals.forget(archive)


def _measured(host: ModelHost, use_case: str, champion: str, body: dict[str, Any], rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {STAGED: [], champion: []}
    for turn in range(_WARM_UP + rounds):
        for version, taken in seconds.items():
            started = time.perf_counter()
            try:
                host.predict(use_case, version, body)
            except DeploymentError as refusal:
                if version == champion:  # its requests had other fields
                    return {"skipped": f"the champion does not answer the challenger's recorded requests: {refusal}"}
                raise
            if turn >= _WARM_UP:
                taken.append(time.perf_counter() - started)
    medians = {version: statistics.median(taken) for version, taken in seconds.items()}
    return {
        "ratio": medians[STAGED] / medians[champion],
        "challenger_ms": 1000 * medians[STAGED],
        "champion_ms": 1000 * medians[champion],
    }
