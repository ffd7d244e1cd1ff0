from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from core.errors import DeadlineMissed, Overloaded
from serving.gateway.coalescer import Answer, Coalescer, Limits, Question
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed, MemoryModelCaller
from serving.gateway.route_table import InFlight

pytestmark = pytest.mark.anyio


def _fares(use_case: str, version: str, body: Mapping[str, Any]) -> list[float]:
    if any(row["fare"] < 0 for row in body["instances"]):
        raise CallFailed("poison", 500)
    return [row["fare"] for row in body["instances"]]


def _question(*fares: float, now_us: int = 0) -> Question:
    return Question([{"fare": fare} for fare in fares], None, 0, f"id-{fares[0]}", now_us)


class _Rig:
    def __init__(self, **limits: Any) -> None:
        self.caller = MemoryModelCaller(_fares)
        self.in_flight = InFlight()
        merged = Limits(**{"max_pending": 100, "timeout_s": 5.0, **limits})
        self.coalescer = Coalescer(self.caller, self.in_flight, merged, GatewayMetrics())

    def ask(self, *fares: float, version: str = "1", now_us: int = 0) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(result: Answer | BaseException) -> None:
            if isinstance(result, Answer):
                future.set_result(result)
            else:
                future.set_exception(result)

        self.coalescer.submit("tip", version, _question(*fares, now_us=now_us), done)
        return future

    def sizes(self) -> list[int]:
        return [len(body["instances"]) for _, _, body in self.caller.calls]


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_arrives_during_calls_is_sent_as_one_and_dealt_back() -> None:
    rig = _Rig()
    rig.caller.gate.clear()
    tasks = []
    for turn in (range(1), range(1, 3), range(3, 8)):
        tasks += [rig.ask(float(i), i + 0.5) for i in turn]
        await _settle()
    assert rig.sizes() == [2, 4], "an idle lane sends what comes together at once, two calls at most"
    assert rig.in_flight.counts() == {"tip/1": 16}
    rig.caller.gate.set()
    answers = await asyncio.gather(*tasks)
    assert rig.sizes() == [2, 4, 10]
    assert [answer.predictions for answer in answers] == [[float(i), i + 0.5] for i in range(8)]
    assert rig.caller.calls[-1][2]["calls"][:2] == [[2, 0, "id-3.0", None, True], [2, 0, "id-4.0", None, True]]
    await _settle()
    assert rig.in_flight.counts() == {}


async def test_versions_do_not_share_calls() -> None:
    rig = _Rig(max_calls=1)
    rig.caller.gate.clear()
    tasks = [rig.ask(1.0, version=v) for v in ("1", "2", "1", "2")]
    await _settle()
    rig.caller.gate.set()
    assert [answer.version for answer in await asyncio.gather(*tasks)] == ["1", "2", "1", "2"]


async def test_calls_stay_below_their_largest_size() -> None:
    rig = _Rig(max_calls=1, max_batch=3)
    rig.caller.gate.clear()
    tasks = [rig.ask(*[1.0] * n) for n in (1, 2, 2, 5, 1)]
    await _settle()
    rig.caller.gate.set()
    await asyncio.gather(*tasks)
    assert rig.sizes() == [3, 2, 5, 1]


async def test_in_a_replay_only_questions_of_the_same_moment_share_a_call() -> None:
    rig = _Rig(max_calls=1, same_now=True)
    rig.caller.gate.clear()
    tasks = [rig.ask(1.0, now_us=now) for now in (1, 2, 2, 3)]
    await _settle()
    rig.caller.gate.set()
    await asyncio.gather(*tasks)
    assert [(body["now_us"], len(body["instances"])) for _, _, body in rig.caller.calls] == [(1, 1), (2, 2), (3, 1)]


async def test_load_is_shed_at_once_when_too_much_is_waiting() -> None:
    rig = _Rig(max_pending=3)
    rig.caller.gate.clear()
    waiting = rig.ask(1.0, 2.0)
    await _settle()
    for rows in ((1.0, 2.0), (1.0,)):  # a small one would fit, but nobody knows how large the next one is
        with pytest.raises(Overloaded):
            rig.ask(*rows)
    rig.caller.gate.set()
    await waiting
    await _settle()
    assert (await rig.ask(1.0, 2.0)).predictions == [1.0, 2.0], "what was answered makes room"


async def test_a_call_that_never_fits_shuts_out_nobody_else() -> None:
    rig = _Rig(max_pending=1)
    with pytest.raises(Overloaded):
        rig.ask(1.0, 2.0)
    assert (await rig.ask(1.0)).predictions == [1.0]


async def test_load_is_shed_when_the_model_would_take_too_long() -> None:
    rig = _Rig(max_wait_s=0.03, max_calls=1, max_batch=1)
    loop = asyncio.get_running_loop()
    rig.caller.gate.clear()
    first = rig.ask(1.0)
    loop.call_later(0.05, rig.caller.gate.set)
    await first
    rig.caller.gate.clear()
    waiting = [rig.ask(2.0)]
    await _settle()
    waiting.append(rig.ask(3.0))
    with pytest.raises(Overloaded, match="would be free in"):
        rig.ask(4.0)
    rig.caller.gate.set()
    assert [answer.predictions for answer in await asyncio.gather(*waiting)] == [[2.0], [3.0]]


async def test_a_poisonous_question_spares_its_neighbours() -> None:
    rig = _Rig(max_calls=1)
    rig.caller.gate.clear()
    tasks = [rig.ask(fare) for fare in (0.0, 1.0, -1.0, 2.0)]
    await _settle()
    rig.caller.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Answer, Answer, CallFailed, Answer]


async def test_silence_is_given_up_and_leaves_nothing_behind() -> None:
    rig = _Rig(timeout_s=0.01, max_calls=1)
    rig.caller.gate.clear()
    results = await asyncio.gather(*[rig.ask(1.0) for _ in range(3)], return_exceptions=True)
    assert all(isinstance(result, DeadlineMissed) for result in results)
    await _settle()
    assert rig.in_flight.counts() == {}
    rig.caller.gate.set()
    assert (await rig.ask(4.0)).predictions == [4.0]


async def test_an_unforeseen_failure_reaches_everyone_who_waits() -> None:
    rig = _Rig()
    rig.caller._answer = lambda use_case, version, body: 1 / 0  # type: ignore[assignment,return-value]
    results = await asyncio.gather(rig.ask(1.0), rig.ask(2.0), rig.ask(3.0), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 3


async def test_who_cannot_take_an_answer_is_told_so_and_alone() -> None:
    rig = _Rig(max_calls=1)
    told: list[Answer | BaseException] = []

    def clumsy(result: Answer | BaseException) -> None:
        told.append(result)
        if isinstance(result, Answer):
            raise KeyError("score")

    rig.coalescer.submit("tip", "1", _question(1.0), clumsy)
    assert (await rig.ask(2.0)).predictions == [2.0]
    assert [type(result) for result in told] == [Answer, KeyError]
