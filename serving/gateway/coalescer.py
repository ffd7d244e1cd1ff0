"""Turning many small requests into few calls of the model host, without waiting for company."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import DeadlineMissed, Overloaded
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed, ModelCaller
from serving.gateway.route_table import InFlight
from serving.gateway.tracing import passed_on

logger = logging.getLogger(__name__)
_SMOOTHING = 0.2  # weight of the newest call in the estimate of how fast a version is


@dataclass(slots=True)  # one per request: frozen ones take three times as long to make
class Question:
    """What one client asks of one version: n instances.

    Args:
        rows: clean rows, n.
        context: fields that are the same for all of them, and stand in none; None if there are none.
        at_us: the moment they are asked for, µs since 1970 UTC; one for all, or n.
        ids: what the prediction ids begin with (`core.prediction_ids.ids_of`).
        now_us: the gateway's now; only questions with the same now share a call when history is replayed.
        role: ``answer``, or ``shadow`` for one that no client gets the answer of.
        log: whether it ends in the prediction log.
        traceparent: what the model host is told of the trace it belongs to; None if it belongs to none.
    """

    rows: list[dict[str, Any]]
    context: Mapping[str, Any] | None
    at_us: int | list[int]
    ids: str
    now_us: int
    role: str = "answer"
    log: bool = True
    traceparent: bytes | None = None


@dataclass(slots=True)
class Stages:
    """Where the time of an answer went, in seconds, by `time.monotonic`'s clock where they are moments.

    Args:
        asked_s: moment at which the question was put.
        called_s: moment at which the host was called with it.
        answered_s: moment at which it answered.
        features_s: what reading the features took, of the call.
        model_s: what the model took, of the call.
        log_s: what writing the prediction log took, of the call.
    """

    asked_s: float
    called_s: float
    answered_s: float
    features_s: float
    model_s: float
    log_s: float


@dataclass(slots=True)
class Answer:
    """Scores for the n instances of one question.

    Args:
        predictions: n scores.
        degraded: instances that something was missing for: their index and why.
        version: the version that answered.
        stages: where the time went.
    """

    predictions: list[float | None]
    degraded: list[tuple[int, list[str]]]
    version: str
    stages: Stages


Done = Callable[[Answer | BaseException], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the coalescer may do.

    Args:
        max_pending: most instances accepted and not answered.
        max_wait_s: most seconds a question may be expected to wait for its call.
        timeout_s: seconds a question may take, unless it says less.
        max_batch: most instances in one call (a single larger question still goes in one).
        max_calls: most calls in flight per version.
        same_now: whether only questions with the same now may share a call.
    """

    max_pending: int
    timeout_s: float
    max_wait_s: float = 0.25
    max_batch: int = 2048
    max_calls: int = 2
    same_now: bool = False


@dataclass(slots=True, eq=False)
class _Ask:
    question: Question
    asked_s: float
    deadline_s: float
    done: Done | None  # None: answered, or given up
    timer: asyncio.TimerHandle | None = None

    def settle(self, result: Answer | BaseException) -> None:
        done, self.done = self.done, None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if done is None:
            return
        try:
            done(result)
        except Exception as error:  # of whoever waits: neither they nor their neighbours may be left without an answer
            logger.exception("an answer could not be handed over")
            done(error)


@dataclass(slots=True, eq=False)
class _Lane:
    use_case: str
    version: str
    role: str
    queue: deque[_Ask] = field(default_factory=deque)
    queued: int = 0  # instances
    calls: int = 0
    pumping: bool = False
    call_s: float = 0.0  # how long the recent calls took


class Coalescer:
    """Collects what arrives while calls are in flight and sends it as one call, per use case, version and role.

    An idle lane sends what arrived together at once. Nothing is accepted that would wait too long: a caller that is
    refused at once can go elsewhere, one that waits in vain cannot. A call that fails because of one question's input
    is repeated question by question, so nobody suffers from a neighbour.

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
        self._lanes: dict[tuple[str, str, str], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_full = False
        self.pending = 0

    def require_room(self, use_case: str, version: str, n: int = 1) -> None:
        """Refuse `n` more instances if they would wait too long.

        When a call did not fit, all are refused until an answer has made room: how many instances a call has is known
        only once it is read, and under overload most of the work would be to read calls in order to refuse them.

        Raises:
            Overloaded: saying why.
        """
        limits = self._limits
        if self._is_full or self.pending + n > limits.max_pending:
            self._is_full = self.pending > 0  # else nothing would ever open it again
            self._metrics.shed(use_case, "queue full")
            raise Overloaded(f"{self.pending} instances are waiting for the model, {n} more are too many.")
        lane = self._lanes.get((use_case, version, "answer"))
        if lane is not None and lane.queued:
            wait_s = (lane.queued // limits.max_batch + 1) * lane.call_s / limits.max_calls
            if wait_s > limits.max_wait_s:
                self._metrics.shed(use_case, "wait too long")
                raise Overloaded(f"The model would be free in {wait_s:.2f} s; {limits.max_wait_s:g} s are allowed.")

    def submit(
        self, use_case: str, version: str, question: Question, done: Done, timeout_s: float | None = None
    ) -> None:
        """Have a question answered by a version; `done` gets the answer, or what went wrong.

        Args:
            use_case: the use case.
            version: the version that shall answer.
            question: the question.
            done: called once, later: with an Answer, or with `CallFailed`, `DeadlineMissed` or what was not foreseen.
            timeout_s: seconds it may take, if less than the limit.

        Raises:
            Overloaded: at once, if it would wait too long.
        """
        n = len(question.rows)
        self.require_room(use_case, version, n)
        key = (use_case, version, question.role)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(*key)
        loop = asyncio.get_running_loop()
        now_s, allowed_s = time.monotonic(), self._limits.timeout_s
        if timeout_s is None or timeout_s >= allowed_s:  # its call ends by then, and so do those it waits for
            ask = _Ask(question, now_s, now_s + allowed_s, done)
        else:
            ask = _Ask(question, now_s, now_s + timeout_s, done)
            ask.timer = loop.call_at(ask.deadline_s, _give_up, ask)
        self._count(lane, n)
        lane.queue.append(ask)
        lane.queued += n
        self._wake(lane)

    def _count(self, lane: _Lane, n: int) -> None:
        self.pending += n
        self._is_full = self._is_full and n > 0
        self._metrics.pending = self.pending
        self._in_flight.add(lane.use_case, lane.version, n)

    def _wake(self, lane: _Lane) -> None:
        """Pump when everything that has arrived by now is queued: what arrives together is sent together."""
        if not lane.pumping and lane.calls < self._limits.max_calls:
            lane.pumping = True
            asyncio.get_running_loop().call_soon(self._pump, lane)

    def _pump(self, lane: _Lane) -> None:
        lane.pumping = False
        while lane.calls < self._limits.max_calls and (batch := self._take(lane)):
            lane.calls += 1
            task = asyncio.create_task(self._run(lane, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self, lane: _Lane) -> list[_Ask]:
        """The next questions that may share a call; those given up meanwhile are dropped."""
        batch: list[_Ask] = []
        room, same_now, queue = self._limits.max_batch, self._limits.same_now, lane.queue
        while queue:
            ask = queue[0]
            n = len(ask.question.rows)
            if ask.done is None:
                queue.popleft()
                lane.queued -= n
                self._count(lane, -n)
                continue
            if batch and (n > room or (same_now and ask.question.now_us != batch[0].question.now_us)):
                break
            batch.append(queue.popleft())
            lane.queued -= n
            room -= n
        return batch

    async def _run(self, lane: _Lane, batch: list[_Ask]) -> None:
        try:
            await self._answer(lane, batch)
        finally:
            lane.calls -= 1
            self._count(lane, -sum(len(ask.question.rows) for ask in batch))
            self._pump(lane)

    async def _answer(self, lane: _Lane, batch: list[_Ask]) -> None:
        # not by the loop's clock: uvloop's stands still between its turns, and counts whole milliseconds
        called_s, deadline_s = time.monotonic(), max(ask.deadline_s for ask in batch)
        passed_on.set(next((ask.question.traceparent for ask in batch if ask.question.traceparent), None))
        try:
            async with asyncio.timeout_at(deadline_s):
                result = await self._caller.score(lane.use_case, lane.version, _body(batch, deadline_s - called_s))
        except CallFailed as failure:
            if failure.input_related and len(batch) > 1:
                for ask in batch:
                    await self._answer(lane, [ask])
            else:
                _fail(batch, failure)
        except TimeoutError:
            _fail(batch, DeadlineMissed(deadline_s - called_s))
        except Exception as error:  # the top of a task: what is not passed on to those who wait is lost
            _fail(batch, error)
        else:
            answered_s, n = time.monotonic(), sum(len(ask.question.rows) for ask in batch)
            call_s = answered_s - called_s
            self._metrics.waited(lane.use_case, called_s - batch[0].asked_s)
            lane.call_s += (call_s - lane.call_s) * (_SMOOTHING if lane.call_s else 1.0)
            self._metrics.called(lane.use_case, result, n, call_s)
            _deal(batch, result, called_s, answered_s)


def _give_up(ask: _Ask) -> None:
    ask.settle(DeadlineMissed(ask.deadline_s - ask.asked_s))


def _body(batch: list[_Ask], within_s: float) -> dict[str, Any]:
    """What the model host is sent: `serving.torchserve.wire` says how it is read."""
    questions = [ask.question for ask in batch]
    first = questions[0]
    rows = first.rows if len(questions) == 1 else [row for q in questions for row in q.rows]
    body: dict[str, Any] = {
        "instances": rows,
        "calls": [[len(q.rows), q.at_us, q.ids, q.context, q.log] for q in questions],
        "now_us": first.now_us if len(questions) == 1 else max(q.now_us for q in questions),
        "until_us": time.time_ns() // 1000 + int(within_s * 1e6),
    }
    if first.role != "answer":
        body["role"] = first.role
    return body


def _deal(batch: list[_Ask], result: Mapping[str, Any], called_s: float, answered_s: float) -> None:
    predictions, degraded, version = result["predictions"], result["degraded"], result["model_version"]
    features_s, model_s, log_s = result["timing"]
    start, missing = 0, 0
    for ask in batch:
        end = start + len(ask.question.rows)
        own: list[tuple[int, list[str]]] = []
        while missing < len(degraded) and degraded[missing]["instance"] < end:
            own.append((degraded[missing]["instance"] - start, degraded[missing]["reasons"]))
            missing += 1
        if ask.done is not None:
            stages = Stages(ask.asked_s, called_s, answered_s, features_s, model_s, log_s)
            scores = predictions if end - start == len(predictions) else predictions[start:end]
            ask.settle(Answer(scores, own, version, stages))
        start = end


def _fail(batch: list[_Ask], error: Exception) -> None:
    for ask in batch:
        if ask.done is not None:
            ask.settle(_copy(error))


def _copy(error: Exception) -> Exception:
    """An error of its own for each who waits, as raising one object in many mixes up their tracebacks."""
    if isinstance(error, CallFailed):
        return CallFailed(error.problem, error.status)
    return DeadlineMissed(error.allowed_s) if isinstance(error, DeadlineMissed) else error
