"""Where the time goes: the gateway's own histograms, and what every process spends and waits for, per call."""

from __future__ import annotations

import os
import re
import socket
import statistics
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping

from bench.http_bytes import HOST
from bench.load import closed_loop
from bench.measure import Result
from bench.servers.evergreen import evergreen, forget_predictions
from bench.servers.service import Service, World, require_right
from bench.servers.shared import cpu_by_process, shared_world, waits_by_process
from bench.turns import SECONDS, TURNS, running, title

_STAGE = re.compile(r'^evergreen_gateway_stage_seconds_(sum|count)\{.*stage="(\w+)".*\} (\S+)$', re.MULTILINE)
_CASES = (("one", 1), ("one", 64), ("rank", 1), ("rank", 64))
Sums = Mapping[str, tuple[float, float]]


def run(turns: int = TURNS) -> list[Result]:
    """Measure each shape with one connection and with 64."""
    found = []
    with shared_world() as world, running(world, [evergreen]) as (service,):
        service.resume()
        for shape, connections in _CASES:
            found += _case(world, service, shape, connections, turns)
    handed = statistics.median(_hand_over_s() for _ in range(turns))
    return [
        *found,
        Result("a byte from one process to another that waits for it", handed * 1e3, "ms", "lower", n=turns),
    ]


def stages(page: str) -> Sums:
    """Sum in seconds and count of every stage, of all use cases together."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"sum": 0.0, "count": 0.0})
    for kind, stage, value in _STAGE.findall(page):
        found[stage][kind] += float(value)
    return {stage: (each["sum"], each["count"]) for stage, each in found.items()}


def means_ms(before: Sums, after: Sums) -> dict[str, float]:
    """Mean of every stage between two looks, in milliseconds."""
    none = (0.0, 0.0)
    return {
        stage: (total - before.get(stage, none)[0]) / (n - before.get(stage, none)[1]) * 1e3
        for stage, (total, n) in after.items()
        if n > before.get(stage, none)[1]
    }


def _case(world: World, service: Service, shape: str, connections: int, turns: int) -> list[Result]:
    requests, what = service.requests(shape), title(shape, connections)
    seen: dict[str, list[float]] = defaultdict(list)
    units: dict[str, str] = {}

    def note(name: str, unit: str, value: float) -> None:
        seen[name].append(value)
        units[name] = unit

    for turn in range(turns + 1):
        before, spent, waited = stages(_page(service)), cpu_by_process(world, service), waits_by_process(world, service)
        run = closed_loop(service.port, requests, connections=connections, seconds=SECONDS, warm_s=0, first=turn * 101)
        after, used, waits = stages(_page(service)), cpu_by_process(world, service), waits_by_process(world, service)
        require_right(service, shape, run)
        forget_predictions(world)
        if not turn:
            continue
        note(f"{what}, mean: the client waits", "ms", float(run.latency_s.mean()) * 1e3)
        for stage, value in means_ms(before, after).items():
            note(f"{what}, mean: stage {stage}", "ms", value)
        for name, value in _by_kind(spent, used).items():
            note(f"{what}, CPU: {name}", "ms/call", value / len(run.latency_s) * 1e3)
        note(f"{what}, CPU: load generator", "ms/call", run.own_cpu * run.seconds / len(run.latency_s) * 1e3)
        for name, n in _by_kind(waited, waits).items() if connections == 1 else ():
            note(f"{what}, threads that wait to be woken: {name}", "/call", n / len(run.latency_s))
    return [Result(name, statistics.median(each), units[name], "lower", n=turns) for name, each in seen.items()]


def _by_kind(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was added between two looks, processes of one kind together."""
    found: dict[str, float] = defaultdict(float)
    for name, amount in after.items():
        found[re.sub(r"\s\d+$", "", name)] += amount - before.get(name, 0.0)
    return {kind: amount for kind, amount in found.items() if amount > 0}


def _hand_over_s(n: int = 2000) -> float:
    """Seconds from a send to the receiver's return, half of a round trip over a local socket."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        while theirs.recv(1) != b"x":
            theirs.send(b"-")
        os._exit(0)
    began = time.perf_counter()
    for _ in range(n):
        ours.send(b"-")
        ours.recv(1)
    took = time.perf_counter() - began
    ours.send(b"x")
    os.waitpid(child, 0)
    ours.close()
    theirs.close()
    return took / n / 2


def _page(service: Service) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{service.port}/metrics") as answer:
        text: str = answer.read().decode()
    return text
