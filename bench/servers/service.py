"""A running server that answers the benchmark's calls."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.http_bytes import Kept, request_bytes
from bench.load import Run
from bench.servers.tree import Tree
from bench.workload import Ask, Matrix, asks, expected

TOLERANCE = 1e-5


@dataclass(frozen=True)
class World:
    """What all servers share.

    Args:
        redis_port: of the Redis that holds everybody's features.
        folder: for files.
        model: the network, an ONNX file.
    """

    redis_port: int
    folder: Path
    model: Path

    def home(self, name: str) -> Path:
        """A folder of one server's own. Its name is short, for sockets in it: their paths are limited to 107 bytes."""
        found = self.folder / f"{name[:4].strip().lower()}-{zlib.crc32(name.encode()):08x}"
        found.mkdir(exist_ok=True)
        return found


def context_and_ads(ask: Ask) -> Any:
    """The body most peers take: what is common once, and the ads."""
    return {**ask.context, "ads": list(ask.ads)}


def predictions(body: bytes) -> Sequence[float]:
    """The scores in ``{"predictions": […]}``."""
    found: list[float] = orjson.loads(body)["predictions"]
    return found


@dataclass(frozen=True)
class Service:
    """A server to be measured.

    Args:
        name: as shown.
        port: where it answers.
        path: of the call.
        trees: its processes, without Redis.
        headers: sent with every call.
        body: what it is asked, as JSON.
        scores: what it answered; None: it scores nothing.
        warm_s: seconds that it is asked before anything counts, each time it goes on after a pause.
        pauses: whether it is paused while others have their turns; some do not survive it.
    """

    name: str
    port: int
    path: str
    trees: tuple[Tree, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[Ask], Any] = context_and_ads
    scores: Callable[[bytes], Sequence[float]] | None = predictions
    warm_s: float = 0.5
    pauses: bool = True

    def requests(self, shape: str) -> list[bytes]:
        """Whole HTTP requests of a shape."""
        return [request_bytes(self.path, orjson.dumps(self.body(ask)), dict(self.headers)) for ask in asks(shape)]

    def pause(self) -> None:
        """Take nothing from others."""
        for tree in self.trees if self.pauses else ():
            tree.pause()

    def resume(self) -> None:
        """Go on."""
        for tree in self.trees:
            tree.resume()


def require_right(service: Service, shape: str, run: Run) -> None:
    """Check what was answered.

    Raises:
        ValueError: if a call was not answered with 200, or with other scores than the network's.
    """
    refused = {status: n for status, n in run.statuses.items() if status != 200}
    if refused:
        raise ValueError(f"{service.name}, {shape}: not every call was answered with 200: {refused}")
    if not run.kept:
        raise ValueError(f"{service.name}, {shape}: too few answers ({len(run.latency_s)}) to look at one")
    require_scores(service, shape, run.kept)


def require_scores(service: Service, shape: str, kept: Sequence[Kept]) -> None:
    """Compare answers with the network's scores.

    Raises:
        ValueError: naming the first call whose scores are others.
    """
    if service.scores is None:
        return
    for answer in kept:
        wanted = wanted_scores(shape)[answer.request]
        given = np.asarray(service.scores(answer.body), dtype=np.float64)
        if given.shape != wanted.shape or not np.allclose(given, wanted, atol=TOLERANCE):
            raise ValueError(f"{service.name}, {shape}, call {answer.request}: {given} is not {wanted}")


@cache
def wanted_scores(shape: str) -> list[Matrix]:
    """What each call of a shape should be answered."""
    return expected(asks(shape))
