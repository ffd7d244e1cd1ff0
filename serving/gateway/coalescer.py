"""Turning many small requests into few calls of the model host, without waiting for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from core.errors import Overloaded
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed, ModelCaller
from serving.gateway.route_table import InFlight


@dataclass(frozen=True, slots=True)
class Question:
    """What one client asks of one version: n instances.

    Args:
        instances: clean rows.
        at_us: the moment each is asked for, µs since 1970 UTC.
        ids: the prediction ids.
        now_us: the gateway's now; only questions with the same now share a call when history is replayed.
    """

    instances: list[dict[str, Any]]
    at_us: list[int]
    ids: list[str]
    now_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores for the n instances of one question.

    Args:
        predictions: n scores.
        degraded: n lists of reasons, empty where nothing was missing.
        version: the version that answered.
        model_s: seconds the model host took, including retries.
    """

    predictions: list[float]
    degraded: list[list[str]]
    version: str
    model_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the coalescer may do.

    Args:
        max_pending: most instances accepted and not answered.
        timeout_s: seconds a question may take.
        max_batch: most instances in one call (a single larger question still goes in one).
        max_calls: most calls in flight per version.
        same_now: whether only questions with the same now may share a call.
    """

    max_pending: int
    timeout_s: float
    max_batch: int = 512
    max_calls: int = 2
    same_now: bool = False


@dataclass(slots=True)
class _Ask:
    question: Question
    deadline: float
    future: asyncio.Future[Answer]


@dataclass(slots=True)
class _Lane:
    use_case: str
    version: str
    queue: deque[_Ask] = field(default_factory=deque)
    calls: int = 0


class Coalescer:
    """Collects what arrives while calls are in flight and sends it as one call, per use case and version.

    An idle lane sends at once. A call that fails because of one question's input is repeated question
    by question, so nobody suffers from a neighbour.

    Args:
        caller: calls the model host.
        in_flight: told of every instance accepted and not answered.
        limits: bounds.
        metrics: where calls are counted.
    """

    def __init__(self, caller: ModelCaller, in_flight: InFlight, limits: Limits, metrics: GatewayMetrics) -> None:
        self._caller = caller
        self._in_flight = in_flight
        self._limits = limits
        self._metrics = metrics
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending = 0

    async def score(self, use_case: str, version: str, question: Question) -> Answer:
        """Have a question answered by a version.

        Raises:
            Overloaded: at once, if too many instances are waiting.
            DependencyDown: if the model host gives no scores, or not in time.
        """
        n = len(question.instances)
        if self._pending + n > self._limits.max_pending:
            self._metrics.shed.inc()
            raise Overloaded(f"{self._pending} instances are waiting for the model, {n} more are too many.")
        lane = self._lanes.get((use_case, version))
        if lane is None:
            lane = self._lanes[use_case, version] = _Lane(use_case, version)
        loop = asyncio.get_running_loop()
        ask = _Ask(question, loop.time() + self._limits.timeout_s, loop.create_future())
        self._count(lane, n)
        lane.queue.append(ask)
        self._pump(lane)
        try:
            async with asyncio.timeout_at(ask.deadline):
                return await ask.future
        except TimeoutError as error:
            raise CallFailed(f"no scores within {self._limits.timeout_s:g} s") from error

    def _count(self, lane: _Lane, n: int) -> None:
        self._pending += n
        self._metrics.pending.set(self._pending)
        self._in_flight.add(lane.use_case, lane.version, n)

    def _pump(self, lane: _Lane) -> None:
        while lane.calls < self._limits.max_calls and (batch := self._take(lane)):
            lane.calls += 1
            task = asyncio.create_task(self._run(lane, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not lane.calls and not lane.queue:
            self._lanes.pop((lane.use_case, lane.version), None)

    def _take(self, lane: _Lane) -> list[_Ask]:
        """The next questions that may share a call; those given up meanwhile are dropped."""
        batch: list[_Ask] = []
        room = self._limits.max_batch
        while lane.queue:
            ask = lane.queue[0]
            n = len(ask.question.instances)
            if ask.future.done():
                lane.queue.popleft()
                self._count(lane, -n)
                continue
            if batch and (n > room or (self._limits.same_now and ask.question.now_us != batch[0].question.now_us)):
                break
            batch.append(lane.queue.popleft())
            room -= n
        return batch

    async def _run(self, lane: _Lane, batch: list[_Ask]) -> None:
        try:
            await self._answer(lane, batch)
        finally:
            lane.calls -= 1
            self._count(lane, -sum(len(ask.question.instances) for ask in batch))
            self._pump(lane)

    async def _answer(self, lane: _Lane, batch: list[_Ask]) -> None:
        started = perf_counter()
        try:
            async with asyncio.timeout_at(max(ask.deadline for ask in batch)):
                result = await self._caller.score(lane.use_case, lane.version, _body(batch))
        except CallFailed as failure:
            if failure.input_related and len(batch) > 1:
                for ask in batch:
                    await self._answer(lane, [ask])
            else:
                _fail(batch, failure)
        except TimeoutError:
            _fail(batch, CallFailed(f"no scores within {self._limits.timeout_s:g} s"))
        except Exception as error:  # the top of a task: what is not passed on to those who wait is lost
            _fail(batch, error)
        else:
            model_s = perf_counter() - started
            self._metrics.called(model_s, sum(len(ask.question.instances) for ask in batch))
            _deal(batch, result, model_s)


def _body(batch: list[_Ask]) -> dict[str, Any]:
    questions = [ask.question for ask in batch]
    if len(questions) == 1:
        only = questions[0]
        return {"instances": only.instances, "at_us": only.at_us, "prediction_ids": only.ids, "now_us": only.now_us}
    return {
        "instances": [row for q in questions for row in q.instances],
        "at_us": [at for q in questions for at in q.at_us],
        "prediction_ids": [identity for q in questions for identity in q.ids],
        "now_us": max(q.now_us for q in questions),
    }


def _deal(batch: list[_Ask], result: Mapping[str, Any], model_s: float) -> None:
    start = 0
    for ask in batch:
        end = start + len(ask.question.instances)
        if not ask.future.done():
            ask.future.set_result(
                Answer(
                    result["predictions"][start:end], result["degraded"][start:end], result["model_version"], model_s
                )
            )
        start = end


def _fail(batch: list[_Ask], error: Exception) -> None:
    for ask in batch:
        if not ask.future.done():
            ask.future.set_exception(_copy(error))


def _copy(error: Exception) -> Exception:
    """An error of its own for each waiting task, as raising one object in many mixes up their tracebacks."""
    if isinstance(error, CallFailed):
        return CallFailed(error.problem, error.status)
    return error
