"""The whole gateway, called as a client calls it, with everything around it in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Overloaded
from core.prediction_ids import ids_of
from serving.gateway.coalescer import Coalescer
from serving.gateway.model_caller import CallFailed, MemoryModelCaller
from serving.routing import Route, Share

pytestmark = pytest.mark.anyio
Running = Callable[..., Any]
PREDICT, FEEDBACK, EVENTS = "/v1/models/tip/predict", "/v1/models/tip/feedback", "/v1/events/trips"


def _problem(response: Any, status: int, field: str | None = None) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert response.status_code == status == document["status"], document
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "field", "remedy"} <= set(document)
    assert document["remedy"]
    if field is not None:
        assert document["field"] == field
    return document


async def test_a_prediction(running: Running) -> None:
    async with running() as world:
        response = await world.predict(world.good_row, {"zone": 8, "fare": 3, "vendor": "unknown"})
        answer = response.json()
        assert response.status_code == 200
        assert answer["predictions"] == [0.5, 0.5]
        assert len(set(answer["prediction_ids"])) == 2
        assert answer["model_version"] == "7"
        assert answer["degraded"] == [{"instance": 1, "reasons": ["profile: unknown entity"]}]
        assert "model;dur=" in response.headers["server-timing"]
        ((use_case, version, body),) = world.caller.calls
        assert (use_case, version) == ("tip", "7")
        now_us = 1_549_108_800_000_000
        assert body["instances"] == [
            {"zone": 7, "fare": 12.5, "vendor": "yellow", "count": None},
            {"zone": 8, "fare": 3.0, "vendor": "unknown", "count": None},
        ]
        ((n, at_us, ids, context, log),) = body["calls"]
        assert (n, at_us, context, log, body["now_us"]) == (2, now_us, None, True, now_us)
        assert ids_of(ids, 2) == answer["prediction_ids"]


async def test_fields_that_all_instances_share_stand_in_the_context(running: Running) -> None:
    async with running() as world:
        context, zones = {"fare": 3, "vendor": "yellow", "count": None}, [{"zone": zone} for zone in range(1, 51)]
        response = await world.client.post(PREDICT, json={"context": context, "instances": zones})
        assert response.status_code == 200
        assert len(set(response.json()["prediction_ids"])) == 50
        ((_, _, body),) = world.caller.calls
        assert body["instances"] == zones
        assert body["calls"][0][3] == {"fare": 3.0, "vendor": "yellow", "count": None}
        bad: list[tuple[Any, Any, str]] = [
            ([], zones, "context"),
            ({}, zones, "context"),
            ({"fare": 1e9}, zones, "context.fare"),
            ({"nope": 1}, zones, "context.nope"),
            ({"fare": 1.0, "vendor": None, "count": 1, "zone": 1}, [{}, {"zone": 1}], "instances[1].zone"),
            (context, [*zones, {"zone": 301}], "instances[50].zone"),
            (context, [*zones, {"zone": 1.0}], "instances[50].zone"),
            (context, [*zones, {"zone": 1, "fare": 1}], "instances[50].fare"),
            (context, [*zones, 7], "instances[50]"),
            ({"fare": 1.0}, [{"vendor": "x"}], "instances[0].zone"),
        ]
        for shared, rows, field in bad:
            _problem(await world.client.post(PREDICT, json={"context": shared, "instances": rows}), 422, field)
        assert len(world.caller.calls) == 1


async def test_a_deadline_that_the_client_sets_is_kept(running: Running) -> None:
    async with running() as world:
        world.caller.gate.clear()
        problem = _problem(await world.predict(world.good_row, **{"X-Evergreen-Timeout-Ms": "20"}), 408)
        assert "20 ms" in problem["detail"]
        world.caller.gate.set()
        for bad in ("0", "-1", "soon", "1.5", "600001", "9" * 30):
            response = await world.predict(world.good_row, **{"X-Evergreen-Timeout-Ms": bad})
            _problem(response, 400, "X-Evergreen-Timeout-Ms")
        assert (await world.predict(world.good_row, **{"X-Evergreen-Timeout-Ms": "5000"})).status_code == 200


async def test_the_moment_asked_about_lies_within_the_lateness(running: Running) -> None:
    async with running() as world:
        good: list[Any] = ["2019-02-02T11:00:00Z", "2019-02-02T12:05:00", "2019-02-02T13:04:00+01:00", None]
        for at in good:
            assert (await world.predict({**world.good_row, "at": at})).status_code == 200
        bad: list[Any] = ["2019-02-02T10:59:59.999999Z", "2019-02-02T12:05:01Z", "soon", 12, ""]
        for at in bad:
            _problem(await world.predict(world.good_row, {**world.good_row, "at": at}), 422, "instances[1].at")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"zone": None}, "instances[0].zone"),
        ({"zone": "7"}, "instances[0].zone"),
        ({"zone": True}, "instances[0].zone"),
        ({"zone": 7.0}, "instances[0].zone"),
        ({"zone": 0}, "instances[0].zone"),
        ({"zone": 2**70}, "instances[0].zone"),
        ({"fare": "NaN"}, "instances[0].fare"),
        ({"fare": 1e300}, "instances[0].fare"),
        ({"vendor": ""}, "instances[0].vendor"),
        ({"vendor": "x" * 257}, "instances[0].vendor"),
        ({"vendor": "\x00"}, "instances[0].vendor"),
        ({"tip_amount": 3}, "instances[0].tip_amount"),
    ],
)
async def test_a_wrong_field_is_named(running: Running, change: dict[str, Any], field: str) -> None:
    async with running() as world:
        body = (
            orjson.dumps({"instances": [{**world.good_row, **change}]})
            if 2**70 not in change.values()
            else (b'{"instances": [{"zone": 1180591620717411303424, "fare": 1}]}')
        )
        _problem(await world.client.post(PREDICT, content=body), 422, field)
        assert not world.caller.calls


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"instances": [{"zone": 7, "fare": NaN}]}', 400, "instances[0].fare"),
        (b'{"instances": [{"zone": 7, "fare": Infinity}]}', 400, "instances[0].fare"),
        (b'{"instances": [{"zone": 7, "fare": 1e400}]}', 400, "instances[0].fare"),
        (b'{"instances": [{"zone": 7, "fare": 1, "vendor": "\\ud83d"}]}', 400, "instances[0].vendor"),
        (b'{"instances": [{"zone": 7, "zone": 8, "fare": 1}]}', 400, None),
        (b"{}", 422, "instances"),
        (b'{"instances": []}', 422, "instances"),
        (b'{"instances": {}}', 422, "instances"),
        (b'{"instances": [[]]}', 422, "instances[0]"),
        (b'{"instances": [{"fare": 1}]}', 422, "instances[0].zone"),
        (b'{"instances": [' + b",".join([b'{"zone": 7, "fare": 1}'] * 257) + b"]}", 422, "instances"),
        (b'{"instances": [{"zone": 7, "fare": 1}], "extra": 1}', 422, "extra"),
        (b" " * 2_097_153, 413, None),
        (b"x" * 10_000_000, 413, None),
    ],
)
async def test_bad_bodies(running: Running, body: bytes, status: int, field: str | None) -> None:
    async with running() as world:
        _problem(await world.client.post(PREDICT, content=body), status, field)
        assert not world.caller.calls
        assert not world.written()


async def test_paths_and_methods(running: Running) -> None:
    async with running() as world:
        for path in ("/v1/models/nope/predict", "/v1/models/nope/feedback"):
            assert "tip" in _problem(await world.client.post(path, json={}), 404, "use_case")["remedy"]
        _problem(await world.client.get("/v1/models/nope"), 404, "use_case")
        assert "trips" in _problem(await world.client.post("/v1/events/nope", json={}), 404, "source")["remedy"]
        for path in (
            "/",
            "/nope",
            "/v1",
            "/v1/",
            "/v1/models/tip/nope",
            "/v1/models/tip/predict/",
            "/v1/models/%00%FF",
        ):
            _problem(await world.client.get(path), 404)
        for path in (PREDICT, FEEDBACK, EVENTS):
            for method in ("GET", "PUT", "DELETE", "HEAD", "PATCH", "BREW"):
                response = await world.client.request(method, path)
                assert response.status_code == 405
                assert response.headers["allow"] == "POST, OPTIONS"
            assert (await world.client.options(path)).status_code == 204
        response = await world.client.post("/v1/models")
        _problem(response, 405)
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"
        assert (await world.client.options("/healthz")).headers["allow"] == "GET, HEAD, OPTIONS"


async def test_feedback_is_stored_for_predictions_that_were_made(running: Running) -> None:
    async with running() as world:
        first, second = (await world.predict(world.good_row, world.good_row)).json()["prediction_ids"]
        labels = [
            {"prediction_id": first, "label": 1},
            {"prediction_id": second, "label": 0, "at": "2019-02-02T11:59:00Z"},
        ]
        response = await world.client.post(FEEDBACK, json={"labels": labels})
        assert (response.status_code, response.json()) == (202, {"accepted": 2})
        (entry,) = world.store.streams[world.keys.labels]
        stored = orjson.loads(entry["data"])
        assert stored["use_case"] == "tip"
        assert stored["known_at_us"] == 1_549_108_800_000_000
        assert stored["labels"] == [
            {"prediction_id": first, "label": 1, "at_us": 1_549_108_800_000_000},
            {"prediction_id": second, "label": 0, "at_us": 1_549_108_740_000_000},
        ]


async def test_feedback_that_is_wrong_stores_nothing(running: Running) -> None:
    async with running() as world:
        (known,) = (await world.predict(world.good_row)).json()["prediction_ids"]
        good = {"prediction_id": known, "label": 1}
        forged = {"prediction_id": known[:-1] + ("0" if known[-1] != "0" else "1"), "label": 1}
        odd_labels: list[Any] = [True, 2, -1, 0.0, "1", None, []]
        for bad, status, field in [
            (forged, 404, "labels[1].prediction_id"),
            ({"prediction_id": "x", "label": 1}, 404, "labels[1].prediction_id"),
            ({"prediction_id": "ü" * 34, "label": 1}, 404, "labels[1].prediction_id"),
            ({"prediction_id": 5, "label": 1}, 422, "labels[1].prediction_id"),
            ({"label": 1}, 422, "labels[1].prediction_id"),
            (good, 422, "labels[1].prediction_id"),
            *(({**good, "label": label}, 422, "labels[1].label") for label in odd_labels),
            ({"prediction_id": known}, 422, "labels[1].label"),
            ({**good, "at": "2019-02-02T12:05:01Z"}, 422, "labels[1].at"),
            ({**good, "extra": 1}, 422, "labels[1].extra"),
        ]:
            _problem(await world.client.post(FEEDBACK, json={"labels": [good, bad]}), status, field)
        assert not world.written()


async def test_a_replay_says_what_now_is(running: Running) -> None:
    async with running(clock="event") as world:
        _problem(await world.predict(world.good_row), 400, "X-Evergreen-Now")
        for bad in ("soon", "", "1549108800"):
            _problem(await world.predict(world.good_row, **{"X-Evergreen-Now": bad}), 400, "X-Evergreen-Now")
        assert (await world.predict(world.good_row, **{"X-Evergreen-Now": "2018-05-01T10:00:00Z"})).status_code == 200
        assert world.caller.calls[0][2]["now_us"] == 1_525_168_800_000_000
        parameters = (await world.client.get("/openapi.json")).json()["paths"][PREDICT]["post"]["parameters"]
        assert parameters[0]["name"] == "X-Evergreen-Now"
    async with running() as world:
        await world.predict(world.good_row, **{"X-Evergreen-Now": "2018-05-01T10:00:00Z"})
        assert world.caller.calls[0][2]["now_us"] == 1_549_108_800_000_000, "ignored outside a replay"


async def test_the_api_key_guards_every_v1_call(running: Running) -> None:
    async with running(gateway={"api_key": "sesame"}) as world:
        for path in (PREDICT, FEEDBACK, EVENTS, "/v1/models/nope/predict"):
            _problem(await world.client.post(path, json={}), 401, "X-API-Key")
        for path in ("/v1/models", "/v1/models/tip", "/v1/nope"):
            _problem(await world.client.get(path, headers={"X-API-Key": "sesamE"}), 401, "X-API-Key")
        assert (await world.predict(world.good_row, **{"X-API-Key": "sesame"})).status_code == 200
        assert (await world.client.get("/v1/models", headers={"X-API-Key": "sesame"})).status_code == 200
        assert (await world.client.get("/healthz")).status_code == 200


async def test_what_is_missing_is_a_503_that_says_when_to_come_back(running: Running) -> None:
    def fail(use_case: str, version: str, body: Any) -> list[float]:
        raise CallFailed("worker died", 500)

    async with running(live=False) as world:
        response = await world.predict(world.good_row)
        assert "evergreen retrain tip" in _problem(response, 503)["detail"]
        assert response.headers["retry-after"] == "1"
        _problem(await world.predict({"zone": 7}), 422)  # what is wrong is said first
    async with running(caller=MemoryModelCaller(fail)) as world:
        assert _problem(await world.predict(world.good_row), 503)["title"] == "Dependency down"
    async with running() as world:
        world.store.down = True
        event = {"id": "a", "at": "2019-02-02T11:00:00Z", "zone": 7}
        assert _problem(await world.client.post(EVENTS, json={"events": [event]}), 503)["title"] == "Dependency down"
        _problem(await world.client.get("/readyz"), 503)
        assert (await world.client.get("/healthz")).status_code == 200
        assert (await world.predict(world.good_row)).status_code == 200, "routes read before stay in force"


async def test_instances_the_version_itself_refuses_are_the_clients_fault(running: Running) -> None:
    def refuse(use_case: str, version: str, body: Any) -> list[float]:
        raise CallFailed("it answered 400", 400)

    async with running(caller=MemoryModelCaller(refuse)) as world:
        _problem(await world.predict(world.good_row), 422, "instances")


async def test_load_is_shed(running: Running) -> None:
    async with running(gateway={"max_pending": 1}) as world:
        world.caller.gate.clear()
        first = asyncio.create_task(world.predict(world.good_row))
        while not world.caller.calls:
            await asyncio.sleep(0)
        response = await world.predict(world.good_row)
        _problem(response, 503)
        assert response.headers["retry-after"] == "1"
        world.caller.gate.set()
        assert (await first).status_code == 200
        metrics = (await world.client.get("/metrics")).text
        assert 'evergreen_gateway_shed_total{reason="queue full",use_case="tip"} 1.0' in metrics
        assert 'evergreen_gateway_requests_total{route="/v1/models/{use_case}/predict",status="503"} 1.0' in metrics
        assert 'evergreen_gateway_requests_total{route="/v1/models/{use_case}/predict",status="200"} 1.0' in metrics


async def test_the_champion_answers_while_a_canary_cannot_keep_up(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_room = Coalescer.require_room

    def is_full(self: Coalescer, use_case: str, version: str, n: int = 1) -> None:
        if version == "8":
            raise Overloaded("The canary is slow.")
        require_room(self, use_case, version, n)

    monkeypatch.setattr(Coalescer, "require_room", is_full)
    async with running(route=Route("7", 3, canary=Share("8", 50))) as world:
        rows = [{"zone": zone, "fare": 3} for zone in range(1, 21)]
        answer = (await world.predict(*rows)).json()
    assert (answer["model_version"], len(answer["predictions"])) == ("7", 20)
    assert "model_versions" not in answer


async def test_a_fault_of_the_gateway_is_a_500_that_shows_nothing(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(use_case: str, version: str, body: Any) -> list[float]:
        raise ZeroDivisionError("secret detail")

    async with running(caller=MemoryModelCaller(broken)) as world:
        assert "secret" not in (await world.predict(world.good_row)).text
        _problem(await world.predict(world.good_row), 500)
    assert "secret detail" in caplog.text


async def test_models_are_listed(running: Running) -> None:
    async with running() as world:
        (summary,) = (await world.client.get("/v1/models")).json()["models"]
        assert summary == {
            "name": "tip",
            "description": "Will there be a tip?",
            "version": "7",
            "generation": 3,
            "since": "2019-02-01T00:00:00+00:00",
        }
        page = (await world.client.get("/v1/models/tip")).json()
        assert [(f["name"], f["entity"]) for f in page["fields"]] == [
            ("zone", True),
            ("fare", False),
            ("vendor", False),
            ("count", False),
        ]
        assert page["label"] == "tipped"
    async with running(live=False) as world:
        assert (await world.client.get("/v1/models/tip")).json()["version"] is None


async def test_the_docs_describe_every_call_and_their_examples_work(running: Running) -> None:
    async with running() as world:
        document = (await world.client.get("/openapi.json")).json()
        assert {
            PREDICT,
            FEEDBACK,
            EVENTS,
            "/v1/models",
            "/v1/models/{use_case}",
            "/healthz",
            "/readyz",
            "/metrics",
            "/v1/admin/keys",
            "/v1/admin/keys/{id}",
            "/v1/admin/keys/{id}/rotate",
        } == {path for path in document["paths"] if not path.startswith("/v2")}
        for path in (PREDICT, EVENTS):
            reference = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = document["components"]["schemas"][reference.split("/")[-1]]
            example = schema["examples"][0]
            assert (await world.client.post(path, json=example)).status_code in (200, 202)
        rows = document["components"]["schemas"]["tip.Instances"]["anyOf"][0]["properties"]["instances"]["items"]
        assert rows["required"] == ["zone", "fare"]
        assert rows["properties"]["zone"] == {
            "type": "integer", "format": "int64", "minimum": 1, "maximum": 300, "description": "pick-up zone",
            "examples": [7],
        }  # fmt: skip
        assert "swagger" in (await world.client.get("/docs")).text


async def test_head_is_get_without_the_body(running: Running) -> None:
    async with running() as world:
        for path in ("/healthz", "/v1/models", "/readyz"):
            response = await world.client.head(path)
            assert (response.status_code, response.content) == (200, b"")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["zone", "fare", "at", "id",
        "label", "prediction_id", "instances", "events", "labels"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@given(
    path=st.sampled_from([PREDICT, FEEDBACK, EVENTS]),
    body=st.binary(max_size=200)
    | json_values.map(lambda v: json.dumps(v).encode())
    | st.tuples(st.sampled_from(["instances", "labels", "events"]), st.lists(json_values, max_size=3)).map(
        lambda pair: json.dumps({pair[0]: pair[1]}).encode()
    ),
)
def test_nothing_a_client_sends_is_our_fault(running: Running, path: str, body: bytes) -> None:
    async def call() -> None:
        async with running() as world:
            response = await world.client.post(path, content=body)
            _problem(response, response.status_code)
            assert 400 <= response.status_code < 500
            assert not world.written()

    asyncio.run(call())
