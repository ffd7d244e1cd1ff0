"""Overload: two and ten times as many calls as can be answered, on time whether or not anybody can take them.

Each call has 250 instances, so that the load generator can make ten times what is answered. It has a core of its own:
on shared ones every call it makes takes from what can be answered, which on other machines is not so.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from bench.load import closed_loop
from bench.measure import Result
from bench.open_load import UNANSWERED, OpenRun, Phase, open_loop, schedule
from bench.servers.evergreen import NAME, evergreen, forget_predictions
from bench.servers.service import Service, World, require_right, require_scores
from bench.servers.shared import apart, shared_world
from bench.turns import TURNS, running
from bench.workload import SHAPES

_SHAPE = "many"
_PEAK_CONNECTIONS = 8
_TIMES = (2, 10)
_USUAL = 0.5  # of what can be answered
_USUAL_S, _OVERLOAD_S, _AFTER_S = 5.0, 6.0, 12.0
_SETTLING_S = 1.0
_WINDOW_S = 1.0
_STEP_S = 0.1
_SLOWER = 1.1


@dataclass(frozen=True)
class Seen:
    """What one overload did.

    Args:
        goodput: calls answered with 200 per second while it lasted, after its first second.
        shed_p99_ms: 99th percentile of the time until a call was refused; 0 if none was.
        shed_share: refused calls, of those due.
        lost: calls that got no answer at all, or whose connection was cut.
        recovery_s: seconds after it until latency was within 10 % of before, for good.
        own_cpu: CPU seconds of the load generator per second.
    """

    goodput: float
    shed_p99_ms: float
    shed_share: float
    lost: int
    recovery_s: float
    own_cpu: float


def run(turns: int = TURNS) -> list[Result]:
    """Measure what can be answered, then overload by turns of two and ten times."""
    with shared_world() as world, running(world, [evergreen]) as (service,), apart(world, service):
        service.resume()
        peak = _peak(world, service, turns)
        seen: dict[int, list[Seen]] = {times: [] for times in _TIMES}
        with Console(stderr=True).status("", refresh_per_second=2) as status:
            for turn in range(turns):
                for times in _TIMES:
                    status.update(f"overload: {times} times what can be answered, run {turn + 1} of {turns}")
                    seen[times].append(_overloaded(world, service, peak, times, turn))
    most = Result(f"overload: most that {NAME} answers", peak * SHAPES[_SHAPE], "scores/s", "higher", n=turns)
    return [most, *(result for times in _TIMES for result in results(times, most, seen[times]))]


def results(times: int, most: Result, seen: Sequence[Seen]) -> list[Result]:
    """Figures of overloads of so many times what can be answered."""
    n, what = len(seen), f"overload, {times} times what can be answered"
    goodput = statistics.median(each.goodput for each in seen) * SHAPES[_SHAPE]
    return [
        Result(f"{what}: answered", goodput, "scores/s", "higher", n=n).versus(most, 0.9),
        Result(f"{what}: refused", statistics.median(s.shed_share for s in seen) * 100, "%", "lower", n=n),
        Result(f"{what}: p99 until refused", statistics.median(s.shed_p99_ms for s in seen), "ms", "lower", 50.0, n=n),
        Result(f"{what}: neither answered nor refused", sum(s.lost for s in seen), "calls", "lower", 0, n=n),
        Result(
            f"{what}: until latency is as before",
            statistics.median(s.recovery_s for s in seen),
            "s",
            "lower",
            10.0,
            n=n,
        ),
        Result(
            f"{what}: load generator", statistics.median(s.own_cpu for s in seen) * 100, "% of a core", "lower", n=n
        ),
    ]


def look(run: OpenRun, began_s: float, ended_s: float, until_s: float) -> Seen:
    """What a run says of its overload.

    Args:
        run: the run.
        began_s: when the overload began.
        ended_s: when it ended.
        until_s: when the last call was due.
    """
    during = run.due_within(began_s, ended_s)
    refused = during & (run.status != 200) & (run.status > 0)
    late = np.percentile(run.latency_s[refused], 99) * 1e3 if refused.any() else 0.0
    return Seen(
        goodput=run.answered(began_s + _SETTLING_S, ended_s),
        shed_p99_ms=float(late),
        shed_share=float(refused.sum() / max(during.sum(), 1)),
        lost=int(((run.status == UNANSWERED) | (run.status == 0)).sum()),
        recovery_s=recovery_s(run, began_s, ended_s, until_s),
        own_cpu=run.own_cpu,
    )


def recovery_s(run: OpenRun, began_s: float, ended_s: float, until_s: float) -> float:
    """Seconds after the overload until latency is within 10 % of before; all the time there was if it never is.

    Latency is the median of the calls due within a second; before is all of the time before but its first second.
    """
    usual = _median_latency(run, _SETTLING_S, began_s)
    for start in np.arange(ended_s, until_s - _WINDOW_S, _STEP_S):
        if _median_latency(run, start, start + _WINDOW_S) <= _SLOWER * usual:
            return float(start) - ended_s
    return until_s - ended_s


def _median_latency(run: OpenRun, since_s: float, until_s: float) -> float:
    chosen = run.due_within(since_s, until_s)
    latency = np.where(run.status[chosen] == 200, run.latency_s[chosen], np.inf)
    return float(np.median(latency)) if len(latency) else float("inf")


def _peak(world: World, service: Service, turns: int) -> float:
    """Calls answered per second, with so few connections that none is refused."""
    rates = []
    for turn in range(turns + 1):
        seen = closed_loop(
            service.port, service.requests(_SHAPE), connections=_PEAK_CONNECTIONS, seconds=3.0, first=turn * 101
        )
        require_right(service, _SHAPE, seen)
        rates.append(seen.rate)
        forget_predictions(world)
    return statistics.median(rates[1:])


def _overloaded(world: World, service: Service, peak: float, times: int, turn: int) -> Seen:
    usual = _USUAL * peak
    phases = [Phase(usual, _USUAL_S), Phase(times * peak, _OVERLOAD_S), Phase(usual, _AFTER_S)]
    seen = open_loop(service.port, service.requests(_SHAPE), schedule(phases, seed=turn))
    require_scores(service, _SHAPE, seen.kept)
    forget_predictions(world)
    return look(seen, _USUAL_S, _USUAL_S + _OVERLOAD_S, sum(phase.seconds for phase in phases))
