"""The loop: how long the stack takes to start, and what its door answers."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import orjson

from bench.measure import Result
from core.discovery import discover
from core.settings import Settings
from core.use_case import ReplaySpan
from stack.demo import free_ports
from stack.local import LocalStack
from stack.replay import PrefectOrchestrator, Replay, ReplayPlan

ROOT = Path(__file__).resolve().parents[1]
_FIRST = datetime(2018, 1, 28, tzinfo=UTC)
_SECONDS = 3.0
_READY_TARGET_S = 45.0


def run() -> list[Result]:
    """Start a stack five times (the first time from nothing), train a version, and ask it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            home=Path(folder) / "home", models_dir=ROOT / "models", data_dir=ROOT / "data", clock="event"
        )
        stack = LocalStack(settings.model_copy(update=free_ports(settings)))
        try:
            cold = stack.up().seconds
            _train(stack.settings)
            results = [Result("evergreen up, from nothing", cold, "s", "lower", _READY_TARGET_S, n=1)]
            results += [_door(stack.settings, connections) for connections in (1, 16, 64)]
            warm = []
            for _ in range(5):
                stack.down()
                warm.append(stack.up().seconds)
            results.append(
                Result("evergreen up, again", statistics.median(warm), "s", "lower", _READY_TARGET_S, n=len(warm))
            )
        finally:
            stack.down()
    return results


def _train(settings: Settings) -> None:
    use_case = discover(settings.models_dir)["taxi_tip"].use_case
    start = datetime(2018, 1, 1, tzinfo=UTC)
    span = ReplaySpan(start=start, first_training=_FIRST, end=_FIRST + timedelta(hours=6))
    plan = ReplayPlan(use_case=use_case, history=use_case.history(settings.data_dir), span=span)
    Replay(settings, plan, PrefectOrchestrator(settings), lambda progress: None).run()


def _door(settings: Settings, connections: int, n: int = 5) -> Result:
    rates = [asyncio.run(_answers(settings, connections)) / _SECONDS for _ in range(n)]
    name = f"taxi_tip predictions over REST, one instance a call, {connections} connections"
    return Result(name, statistics.median(rates), "calls/s", "higher", n=n)


async def _answers(settings: Settings, connections: int) -> int:
    use_case = discover(settings.models_dir)["taxi_tip"].use_case
    body = orjson.dumps({"instances": [{f.name: f.example for f in use_case.request_fields}]})
    headers = {"X-Evergreen-Now": _FIRST.isoformat(), "Content-Type": "application/json"}
    url, until, answered = f"{settings.gateway_url}/v1/models/taxi_tip/predict", time.monotonic() + _SECONDS, 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def ask() -> None:
            nonlocal answered
            while time.monotonic() < until:
                async with session.post(url, data=body, headers=headers) as answer:
                    answer.raise_for_status()
                    await answer.read()
                    answered += 1

        await asyncio.gather(*(ask() for _ in range(connections)))
    return answered


PARTS = {"loop": run}
