"""Slow-loris: what 1,000 connections that never get done sending do to everybody else."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from bench.load import Run, closed_loop
from bench.measure import Result
from bench.peers import ROOT
from bench.servers.evergreen import evergreen, forget_predictions
from bench.servers.service import Service, World, require_right
from bench.servers.shared import shared_world
from bench.turns import TURNS, running
from core.settings import inherited_environment

_SLOW = 1000
_CONNECTIONS = 16
_SECONDS = 4.0
_WITH, _WITHOUT = "with 1,000 slow connections", "without"


def run(turns: int = TURNS) -> list[Result]:
    """Measure the others' latency by turns with and without."""
    runs: dict[str, list[Run]] = {_WITHOUT: [], _WITH: []}
    with shared_world() as world, running(world, [evergreen]) as (service,):
        service.resume()
        _calm(world, service)
        with Console(stderr=True).status("", refresh_per_second=2) as status:
            for turn in range(turns):
                status.update(f"slow connections, run {turn + 1} of {turns}")
                runs[_WITHOUT].append(_calm(world, service))
                with slow_clients(service, _SLOW):
                    runs[_WITH].append(_calm(world, service))
    return results(runs)


def results(runs: dict[str, list[Run]]) -> list[Result]:
    """Latencies and rates with and without."""
    what, n = f"one instance, {_CONNECTIONS} connections", len(runs[_WITH])
    tails = {
        name: Result(
            f"{what}, p99 {name}", statistics.median(run.percentile_ms(99) for run in each), "ms", "lower", n=n
        )
        for name, each in runs.items()
    }
    rates = {
        name: Result(f"{what}, {name}", statistics.median(run.rate for run in each), "calls/s", "higher", n=n)
        for name, each in runs.items()
    }
    return [*rates.values(), tails[_WITHOUT], tails[_WITH].versus(tails[_WITHOUT], 1.1)]


@contextmanager
def slow_clients(service: Service, connections: int) -> Iterator[None]:
    """Slow connections to a service, in a process of their own."""
    argv = [sys.executable, "-m", "bench.slow_clients", str(service.port), str(connections), service.path]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, env=inherited_environment(), stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        if not child.stdout.readline():
            raise RuntimeError(f"The slow connections to {service.name} could not be opened.")
        try:
            yield
        finally:
            child.stdin.close()
            child.wait()


def _calm(world: World, service: Service) -> Run:
    run = closed_loop(service.port, service.requests("one"), connections=_CONNECTIONS, seconds=_SECONDS)
    require_right(service, "one", run)
    forget_predictions(world)
    return run
