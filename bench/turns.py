"""Servers measured by turns, so that noise falls on all alike; those whose turn it is not are paused."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from rich.console import Console

from bench.load import Run, closed_loop
from bench.measure import Result
from bench.servers.evergreen import forget_predictions
from bench.servers.service import Service, World, require_right
from bench.workload import SHAPES

SECONDS = 2.0
TURNS = 5
_CALLED = {"one": "one instance", "rank": "one user x 50", "many": "one user x 250"}
Start = Callable[[World], AbstractContextManager[Service]]


@contextmanager
def running(world: World, starts: Sequence[Start]) -> Iterator[list[Service]]:
    """All services started one after the other, and paused."""
    with ExitStack() as stack:
        found = []
        for start in starts:
            service = stack.enter_context(start(world))
            service.pause()
            found.append(service)
        yield found


def measured(
    world: World,
    services: Sequence[Service],
    shape: str,
    connections: int,
    *,
    turns: int = TURNS,
    seconds: float = SECONDS,
) -> dict[str, list[Run]]:
    """Run every service once uncounted, then `turns` times by turns.

    Raises:
        ValueError: if any of them answers a call with anything but the right scores.
    """
    found: dict[str, list[Run]] = {service.name: [] for service in services}
    sent = {service.name: service.requests(shape) for service in services}
    with Console(stderr=True).status("", refresh_per_second=2) as status:
        for turn in range(turns + 1):
            for service in services:
                status.update(f"{title(shape, connections)}: {service.name}, run {turn} of {turns}")
                service.resume()
                try:
                    run = closed_loop(
                        service.port,
                        sent[service.name],
                        connections=connections,
                        seconds=seconds if turn else seconds / 2,
                        warm_s=service.warm_s,
                        first=turn * 101,
                    )
                finally:
                    service.pause()
                require_right(service, shape, run)
                if turn:
                    found[service.name].append(run)
            forget_predictions(world)
    return found


def title(shape: str, connections: int) -> str:
    """What is measured, in words."""
    return f"{_CALLED[shape]}, {connections} connection{'s' if connections > 1 else ''}"


def rate(shape: str, connections: int, name: str, runs: Sequence[Run]) -> Result:
    """Calls per second of one service; scores per second where a call has many."""
    n = SHAPES[shape]
    value = statistics.median(run.rate for run in runs) * n
    return Result(
        f"{title(shape, connections)}: {name}", value, "scores/s" if n > 1 else "calls/s", "higher", n=len(runs)
    )


def latency(shape: str, connections: int, name: str, runs: Sequence[Run], percent: int) -> Result:
    """A percentile of the latencies of one service."""
    value = statistics.median(run.percentile_ms(percent) for run in runs)
    return Result(f"{title(shape, connections)}, p{percent}: {name}", value, "ms", "lower", n=len(runs))
