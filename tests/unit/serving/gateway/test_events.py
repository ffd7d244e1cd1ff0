"""Events as clients send them: stored exactly as declared, or refused with the field named."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from core.use_case import EventSource, Field, UseCase
from features.definitions import Aggregate, FeatureSet, WindowView
from features.tiles import LARGEST_MULTIPLE

pytestmark = pytest.mark.anyio
Running = Callable[..., Any]
EVENTS = "/v1/events/trips"
GOOD = {"id": "a", "at": "2019-02-02T11:00:00Z", "zone": 7, "fare": 12.5, "seats": 2}
NOW_US = 1_549_108_800_000_000
LARGEST_FARE = LARGEST_MULTIPLE * 0.01
HUGE = 2**63 - 1


def window(name: str, entity: str | tuple[str, ...], *aggregates: Aggregate) -> WindowView:
    hour = timedelta(hours=1)
    return WindowView(
        name=name, entity=entity, source="trips", tile=hour, windows=(2 * hour,), aggregates=aggregates,
    )  # fmt: skip


@pytest.fixture
def use_case(use_case: UseCase) -> UseCase:
    """Trips that are counted by zone and by zone and driver."""
    driver = Field(name="driver", dtype="str", nullable=True)
    zone, seats = Field(name="zone", dtype="int"), Field(name="seats", dtype="int")
    numbers = (Field(name="fare", dtype="float"), seats, Field(name="token", dtype="int", nullable=True))
    fares = Aggregate(name="fares", kind="sum", field="fare", resolution=0.01)
    exact = Aggregate(name="exact", kind="max", field="fare", resolution=0.5)
    share = Aggregate(name="share", kind="ratio", field="fare", over="seats", resolution=1.0)
    tokens = Aggregate(name="tokens", kind="distinct", field="token")
    return replace(
        use_case,
        entities=(*use_case.entities, driver),
        sources=(EventSource(name="trips", fields=(zone, driver, *numbers)),),
        features=FeatureSet((window("at", "zone", fares, exact), window("by", ("zone", "driver"), share, tokens))),
    )


async def post(world: Any, *events: Any) -> Any:
    return await world.client.post(EVENTS, content=orjson.dumps({"events": list(events)}))


async def test_events_are_stored_in_one_entry(running: Running) -> None:
    async with running() as world:
        more = {"id": "b", "at": "2015-01-01", "zone": 8, "driver": "Eva", "fare": 3, "seats": 1, "token": 5}
        response = await post(world, GOOD, more)
        assert (response.status_code, response.json()) == (202, {"accepted": 2, "positions": {"0": (1 << 20) + 1}})
        served = {entry["by"]: orjson.loads(entry["data"]) for entry in world.store.streams[world.keys.log(0)]}
        assert served["zone"]["id"] == ["a"], "there is no driver, so it counts for its zone alone"
        assert served["zone,zone+driver"] == {
            "id": ["b"], "at_us": [1_420_070_400_000_000], "zone": [8], "driver": ["Eva"], "fare": [3.0],
            "seats": [1], "token": [5],
        }  # fmt: skip
        for entry in world.store.streams[world.keys.log(0)]:
            assert (entry["kind"], entry["source"], entry["known_at"], entry["first"]) == ("events", "trips", NOW_US, 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"id": 3}, "id"),
        ({"id": "a\x00b"}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"id": "x" * 2**20}, "id"),
        ({"driver": "x" * 1_000_000}, "driver"),
        ({"driver": "\x00"}, "driver"),
        ({"driver": ""}, "driver"),
        ({"driver": 7}, "driver"),
        ({"at": None}, "at"),
        ({"at": 1_549_108_800}, "at"),
        ({"at": "2019-02-02T12:05:01Z"}, "at"),
        ({"at": "9999-12-31T23:59:59Z"}, "at"),
        ({"at": "+292277026596-12-04T15:30:08Z"}, "at"),
        ({"at": "1969-12-31T23:59:59.999999Z"}, "at"),
        ({"at": "1970-01-01T00:00:00+00:01"}, "at"),
        ({"at": "0001-01-01T00:00:00Z"}, "at"),
        ({"zone": None}, "zone"),
        ({"zone": "7"}, "zone"),
        ({"zone": 7.0}, "zone"),
        ({"zone": True}, "zone"),
        ({"zone": [7]}, "zone"),
        ({"fare": "x"}, "fare"),
        ({"fare": None}, "fare"),
        ({"fare": 1e300}, "fare"),
        ({"fare": -1e300}, "fare"),
        ({"fare": LARGEST_FARE * 1.000001}, "fare"),
        ({"fare": HUGE}, "fare"),
        ({"seats": HUGE}, "seats"),
        ({"seats": -HUGE}, "seats"),
        ({"seats": LARGEST_MULTIPLE + 1}, "seats"),
        ({"more": 1}, "more"),
        ({"\u202e": 1}, "\u202e"),
        ({"zone+driver": 1}, "zone+driver"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_one_bad_event_refuses_the_call_and_is_named(running: Running, change: Any, field: str) -> None:
    async with running() as world:
        response = await post(world, GOOD, {**GOOD, **change}, {**GOOD, "id": "c"})
        problem = response.json()
        assert (response.status_code, problem["field"]) == (422, f"events[1].{field}"), problem
        assert problem["remedy"]
        assert not world.written()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
async def test_what_is_no_number_is_named_too(running: Running, number: str) -> None:
    async with running() as world:
        body = orjson.dumps({"events": [GOOD, GOOD]}).decode()[::-1].replace("5.21", number[::-1], 1)[::-1]
        response = await world.client.post(EVENTS, content=body)
        assert (response.status_code, response.json()["field"]) == (400, "events[1].fare")
        assert not world.written()


async def test_the_largest_number_that_views_can_keep_is_said(running: Running) -> None:
    async with running() as world:
        problem = (await post(world, {**GOOD, "fare": 1e17})).json()
        assert (
            "Must be finite and lie between -90071992547409.92 and 90071992547409.92, got 1e+17." in problem["detail"]
        )
        problem = (await post(world, {**GOOD, "seats": 10**17})).json()
        assert f"between -{LARGEST_MULTIPLE} and {LARGEST_MULTIPLE}" in problem["detail"]
        problem = (await post(world, {**GOOD, "token": HUGE})).json()
        assert problem["field"] == "events[0].token"
        assert f"as it may be null, got {HUGE}" in problem["detail"]
        accepted = {**GOOD, "fare": -LARGEST_FARE, "seats": LARGEST_MULTIPLE, "token": 2**53, "zone": HUGE}
        assert (await post(world, accepted)).status_code == 202, "what is no quantity may be as large as it likes"


@pytest.mark.parametrize(
    "text",
    [
        "Zoe\u0301",  # decomposed: not to be composed
        unicodedata.normalize("NFC", "Zoe\u0301"),
        "\U0001f695\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u202eabc",
        "\u05e9\u05dc\u05d5\u05dd",
        "a:b{c}:d",
        "a\\b\x1fc",
        " ",
        "\ufeff\ufffe",
        "x" * 256,
    ],
    ids=ascii,
)
async def test_odd_texts_are_stored_exactly_as_sent(running: Running, text: str) -> None:
    async with running() as world:
        response = await post(world, {**GOOD, "id": text, "driver": text})
        assert response.status_code == 202, response.text
        (entry,) = world.store.streams[world.keys.log(0)]
        stored = orjson.loads(entry["data"])
        assert (stored["id"], stored["driver"]) == ([text], [text])


@pytest.mark.parametrize("text", [r"\ud83d", r"a\udc00", r"\udc00\ud83d"])
async def test_half_a_character_is_refused(running: Running, text: str) -> None:
    async with running() as world:
        body = orjson.dumps({"events": [{**GOOD, "id": "HERE"}]}).replace(b"HERE", text.encode())
        response = await world.client.post(EVENTS, content=body)
        assert (response.status_code, response.json()["field"]) == (400, "events[0].id")
        assert not world.written()


async def test_a_full_stream_is_a_429_that_says_when_to_come_back(running: Running) -> None:
    async with running(stream={"max_entries": 1000}) as world:
        world.store.streams[world.keys.log(0)] = [{}] * 1001
        response = await post(world, GOOD)
        assert (response.status_code, response.json()["title"]) == (429, "Stream full")
        assert response.headers["retry-after"] == "1"
        assert world.written() == 1001
        assert "429" in (await world.client.get("/openapi.json")).json()["paths"][EVENTS]["post"]["responses"]


async def test_the_docs_say_how_large_a_number_may_be(running: Running) -> None:
    async with running() as world:
        document = (await world.client.get("/openapi.json")).json()
        reference = document["paths"][EVENTS]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        fare = schema["properties"]["events"]["items"]["properties"]["fare"]
        assert (fare["minimum"], fare["maximum"]) == (-LARGEST_FARE, LARGEST_FARE)
        assert (await world.client.post(EVENTS, json=schema["examples"][0])).status_code == 202
