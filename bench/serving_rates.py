"""Rates and latencies: Evergreen beside TorchServe alone, FastAPI by hand, the frameworks, and a bare echo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.load import Run
from bench.measure import Result
from bench.servers.by_hand import echo, fastapi
from bench.servers.evergreen import ALONE, NAME, evergreen, gateway_alone
from bench.servers.frameworks import BEST, FRAMEWORKS
from bench.servers.shared import answer_like, shared_world
from bench.servers.torchserve import torchserve
from bench.turns import TURNS, latency, measured, rate, running

Runs = Mapping[str, Sequence[Run]]
_CONNECTIONS = (1, 16, 64)
_TORCHSERVE, _FASTAPI, _ECHO = "TorchServe alone", "FastAPI", "bare ASGI echo"


def one(turns: int = TURNS) -> list[Result]:
    """One instance a call."""
    return _against_the_strongest("one", turns)


def rank(turns: int = TURNS) -> list[Result]:
    """One user and 50 candidates a call."""
    return _against_the_strongest("rank", turns)


def peers(turns: int = TURNS) -> list[Result]:
    """The frameworks, each in the best of the ways that were tried, with 64 connections.

    Each runs by turns with the product alone: some take a pause of all their processes for a failure when it is long.
    """
    found = {}
    with shared_world() as world, running(world, [evergreen]) as ours:
        for name, way in BEST.items():
            with running(world, [FRAMEWORKS[name][way]]) as theirs:
                found[name] = measured(world, [*ours, *theirs], "one", 64, turns=turns)
    return peer_results(list(found.values()))


def bare(turns: int = TURNS) -> list[Result]:
    """An application that does nothing, and the gateway with nothing behind it."""
    starts = [evergreen, gateway_alone, lambda world: echo(world, answer_like("one"))]
    found = []
    with shared_world() as world, running(world, starts) as services:
        for connections in (1, 64):
            runs = measured(world, services, "one", connections, turns=turns)
            found += bare_results(connections, runs)
    return found


def _against_the_strongest(shape: str, turns: int) -> list[Result]:
    starts = [evergreen, torchserve, lambda world: torchserve(world, workers=2), fastapi]
    found = []
    with shared_world() as world, running(world, starts) as services:
        for connections in _CONNECTIONS:
            found += strongest_results(shape, connections, measured(world, services, shape, connections, turns=turns))
    return found


def strongest_results(shape: str, connections: int, runs: Runs) -> list[Result]:
    """Figures of everyone; the product's with what the issue asks of it against the others."""
    rates = {name: rate(shape, connections, name, each) for name, each in runs.items()}
    halves = {name: latency(shape, connections, name, each, 50) for name, each in runs.items()}
    tails = {name: latency(shape, connections, name, each, 99) for name, each in runs.items()}
    ours, our_half = rates.pop(NAME), halves.pop(NAME)
    host, by_hand = _highest(rates, _TORCHSERVE), _highest(rates, _FASTAPI)
    found = [*rates.values(), *halves.values(), *tails.values()]
    if connections == 64:
        factors = (1.2, 2.0) if shape == "one" else (1.2, 1.5)
        found += [ours.versus(host, factors[0]), ours.versus(by_hand, factors[1])]
    else:
        found.append(ours)
    if connections == 1 and shape == "one":
        found += [
            our_half.versus(_lowest(halves, _TORCHSERVE), 0.5),
            our_half.versus(_lowest(halves, _FASTAPI), 1.0),
        ]
    else:
        found.append(our_half)
    return found


def peer_results(pairs: Sequence[Runs]) -> list[Result]:
    """Rates and medians of the frameworks; the product's, measured beside the best of them, against that one's."""
    rates, halves, ours = {}, {}, {}
    for runs in pairs:
        (theirs,) = runs.keys() - {NAME}
        rates[theirs] = rate("one", 64, theirs, runs[theirs])
        halves[theirs] = latency("one", 64, theirs, runs[theirs], 50)
        ours[theirs] = rate("one", 64, NAME, runs[NAME])
    best = max(rates, key=lambda name: rates[name].value)
    return [*rates.values(), *halves.values(), ours[best].versus(rates[best], 3.0)]


def bare_results(connections: int, runs: Runs) -> list[Result]:
    """Rates, the product's against the echo's."""
    rates = {name: rate("one", connections, name, each) for name, each in runs.items()}
    nothing, alone, whole = rates[_ECHO], rates[ALONE], rates[NAME]
    if connections == 64:
        return [nothing, alone.versus(nothing, 0.6), whole.versus(nothing, 0.6)]
    return [nothing, alone, whole]


def _highest(results: Mapping[str, Result], begins: str = "") -> Result:
    return max((r for name, r in results.items() if name.startswith(begins)), key=lambda r: r.value)


def _lowest(results: Mapping[str, Result], begins: str) -> Result:
    return min((r for name, r in results.items() if name.startswith(begins)), key=lambda r: r.value)
