"""The protocol in the whole gateway: let in, limited and counted as the native calls are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from serving.gateway.model_caller import CallFailed, MemoryModelCaller
from serving.routing import Route, Share
from tests.unit.serving.gateway.open_inference.conftest import listed

pytestmark = pytest.mark.anyio
Running = Callable[..., Any]
INFER = "/v2/models/tip/infer"
GOOD = {"inputs": [listed("zone", "INT64", [7, 8]), listed("fare", "FP64", [12.5, 3.0])]}


async def test_an_inference_is_answered_as_the_native_call_is(running: Running) -> None:
    async with running() as world:
        response = await world.client.post(INFER, json=GOOD)
        answer = response.json()
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert (response.status_code, answer["model_version"]) == (200, "7")
        assert outputs["scores"] == [0.5, 0.5]
        assert len(set(outputs["prediction_ids"])) == 2
        labels = [{"prediction_id": identity, "label": 1} for identity in outputs["prediction_ids"]]
        assert (await world.client.post("/v1/models/tip/feedback", json={"labels": labels})).status_code == 202
        native = await world.predict({"zone": 7, "fare": 12.5}, {"zone": 8, "fare": 3.0})
        assert native.json()["predictions"] == outputs["scores"]
        asked, natively = (orjson.loads(orjson.dumps(body)) for _, _, body in world.caller.calls)
        assert asked["now_us"] == natively["now_us"]
        assert all(call[-1] is True for call in asked["calls"]), "it is logged"
        metrics = (await world.client.get("/metrics")).text
        assert 'route="/v2/models/{use_case}/infer",status="200"' in metrics


async def test_the_model_is_tried_without_a_trace_in_the_log(running: Running) -> None:
    async with running() as world:
        assert (await world.client.get("/v2/models/tip/ready")).status_code == 200
        ((_, _, body),) = world.caller.calls
        assert [call[-1] for call in body["calls"]] == [False]
        response = await world.client.head("/v2/models/tip/ready")
        assert (response.status_code, response.content) == (200, b"")


async def test_a_model_that_fails_is_not_ready(running: Running) -> None:
    def fail(use_case: str, version: str, body: Any) -> list[float]:
        raise CallFailed("its worker died", 500)

    async with running(caller=MemoryModelCaller(fail)) as world:
        response = await world.client.get("/v2/models/tip/ready")
        assert response.status_code == 503
        assert "its worker died" in response.json()["error"]


async def test_a_canary_can_be_asked_by_name_and_a_shadow_cannot(running: Running) -> None:
    async with running(route=Route("7", 3, canary=Share("8", 10), shadow=Share("9", 100))) as world:
        assert (await world.client.get("/v2/models/tip")).json()["versions"] == ["7", "8"]
        response = await world.client.post("/v2/models/tip/versions/8/infer", json=GOOD)
        assert response.json()["model_version"] == "8"
        refused = await world.client.post("/v2/models/tip/versions/9/infer", json=GOOD)
        assert (refused.status_code, "use one of: 7, 8" in refused.json()["error"]) == (404, True)


async def test_nothing_live_is_said_before_anything_is_asked(running: Running) -> None:
    async with running(live=False) as world:
        response = await world.client.post(INFER, json=GOOD)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert "no live version" in response.json()["error"]


async def test_every_call_needs_the_key_where_there_is_one(running: Running) -> None:
    async with running(gateway={"api_key": "k"}) as world:
        for method, path in (("POST", INFER), ("GET", "/v2"), ("GET", "/v2/models/tip/ready"), ("GET", "/v2/x")):
            for headers in ({}, {"X-API-Key": "wrong"}):
                response = await world.client.request(method, path, headers=headers)
                assert (response.status_code, set(response.json())) == (401, {"error"}), path
        response = await world.client.post(INFER, json=GOOD, headers={"X-API-Key": "k"})
        assert response.status_code == 200
        for probe in ("live", "ready"):
            assert (await world.client.get(f"/v2/health/{probe}")).status_code == 200


@pytest.mark.parametrize("path", [INFER, "/v2/models/tip/versions/7/infer", "/v2/repository/index"])
async def test_large_bodies_are_refused_as_clients_expect(running: Running, path: str) -> None:
    async with running(gateway={"max_body_bytes": 2048}) as world:
        response = await world.client.post(path, content=b" " * 5000)
        assert (response.status_code, "larger than 2048 bytes" in response.json()["error"]) == (413, True)


async def test_replayed_history_says_its_now(running: Running) -> None:
    async with running(clock="event") as world:
        for call in (world.client.post(INFER, json=GOOD), world.client.get("/v2/models/tip/ready")):
            response = await call
            assert (response.status_code, "X-Evergreen-Now" in response.json()["error"]) == (400, True)
        now = {"X-Evergreen-Now": "2018-05-05T00:00:00Z"}
        assert (await world.client.post(INFER, json=GOOD, headers=now)).status_code == 200
        parameters = (await world.client.get("/openapi.json")).json()["paths"][INFER]["post"]["parameters"]
        assert "X-Evergreen-Now" in [parameter["name"] for parameter in parameters]


async def test_the_docs_describe_the_protocol_and_their_example_works(running: Running) -> None:
    async with running() as world:
        document = (await world.client.get("/openapi.json")).json()
        paths = {path: list(methods) for path, methods in document["paths"].items() if path.startswith("/v2")}
        assert len(paths) == 11
        operations = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
        assert len(operations) == len(set(operations))
        example = document["components"]["schemas"]["tip.V2Request"]["examples"][0]
        for path, methods in paths.items():
            body = example if path.endswith("infer") else {}
            for method in methods:
                address = path.replace("{version}", "7")
                response = await world.client.request(method, address, json=body if method == "post" else None)
                assert response.status_code == 200, (path, response.text)


async def test_other_methods_are_told_which_to_use(running: Running) -> None:
    async with running() as world:
        response = await world.client.get(INFER)
        assert (response.status_code, "Use POST" in response.json()["error"]) == (405, True)
