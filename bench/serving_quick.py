"""A quick look while working on the serving path: one short round, no results kept.

``python -m bench.serving_quick [--seconds 2] [--shapes one,rank] [--connections 1,64] [--only evergreen,…]``:
requests and scores a second, p50 and p99, and the CPU time of each process per 1,000 calls.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from bench.load import closed_loop
from bench.servers.by_hand import echo, fastapi
from bench.servers.evergreen import evergreen, forget_predictions
from bench.servers.service import Service, World, require_right
from bench.servers.shared import answer_like, cpu_by_process, shared_world
from bench.servers.torchserve import torchserve
from bench.workload import SHAPES

CONTENDERS = {
    "evergreen": evergreen,
    "torchserve": torchserve,
    "torchserve2": lambda world: torchserve(world, workers=2),
    "fastapi": fastapi,
    "echo": lambda world: echo(world, answer_like("one")),
}


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving_quick")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--shapes", default="one,rank", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--connections", default="1,64")
    parser.add_argument("--only", default="evergreen,torchserve,fastapi,echo", help=f"of {', '.join(CONTENDERS)}")
    wanted = parser.parse_args()
    with shared_world() as world, ExitStack() as stack:
        services = [stack.enter_context(CONTENDERS[name](world)) for name in wanted.only.split(",")]
        for service in services:
            service.pause()
        for shape in wanted.shapes.split(","):
            for connections in map(int, wanted.connections.split(",")):
                print(f"\n{shape}, {connections} connections")
                for service in services:
                    _measure(world, service, shape, connections, wanted.seconds)
    return 0


def _measure(world: World, service: Service, shape: str, connections: int, seconds: float) -> None:
    service.resume()
    before = cpu_by_process(world, service)
    run = closed_loop(service.port, service.requests(shape), connections=connections, seconds=seconds, warm_s=0.5)
    used = cpu_by_process(world, service)
    service.pause()
    forget_predictions(world)
    calls = run.rate * (seconds + 0.5)  # the accounts hold the warm-up too
    print(
        f"{service.name:30} {run.rate:8,.0f} calls/s {run.rate * SHAPES[shape]:9,.0f} scores/s"
        f"  p50 {run.percentile_ms(50):6.2f} ms  p99 {run.percentile_ms(99):6.2f} ms  load generator {run.own_cpu:.0%}"
    )
    for name, cpu_s in used.items():
        spent = (cpu_s - before.get(name, 0.0)) / calls * 1e3
        if spent > 0:
            print(f"    {name:44} {spent:6.3f} CPU s per 1,000 calls")
    try:
        require_right(service, shape, run)
    except ValueError as error:
        print(f"    WRONG: {error}")


if __name__ == "__main__":
    sys.exit(main())
