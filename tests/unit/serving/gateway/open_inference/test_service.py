"""Inference requests, as clients send them and as they should not."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferRequestedOutput

from core.errors import DependencyDown
from serving.gateway.open_inference.service import route_of
from tests.unit.serving.gateway.open_inference.conftest import NOW_US, Door, listed, tensor

pytestmark = pytest.mark.anyio
ZONE, FARE = listed("zone", "INT64", [7]), listed("fare", "FP64", [12.5])
GOOD = {"inputs": [ZONE, FARE]}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("column", [False, True])
async def test_instances_reach_the_scorer_as_the_native_api_would_send_them(
    door: Door, binary: bool, column: bool
) -> None:
    result = await door.infer(
        [
            tensor("zone", "INT64", [7, 8], binary=binary, column=column),
            tensor("fare", "FP64", [12.5, 3.0], binary=binary, column=column),
            tensor("vendor", "BYTES", ["yellow", "unknown"], binary=binary, column=column),
        ],
        request_id="abc",
    )
    (asked,) = door.scorer.asked
    assert asked.instances == [
        {"zone": 7, "fare": 12.5, "vendor": "yellow", "count": None},
        {"zone": 8, "fare": 3.0, "vendor": "unknown", "count": None},
    ]
    assert (asked.at_us, asked.now_us, asked.version, asked.log) == ([NOW_US, NOW_US], NOW_US, None, True)
    assert result.as_numpy("scores").tolist() == [0.5, 0.5]
    assert result.as_numpy("scores").dtype == np.float32
    assert result.as_numpy("prediction_ids").tolist() == [b"id-0", b"id-1"]
    assert result.as_numpy("degraded").tolist() == [b"", b"profile: stale; clock: late"]
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("tip", "7", "abc")


async def test_only_the_outputs_that_are_requested_come_and_as_requested(door: Door) -> None:
    inputs = [tensor("zone", "INT32", [7]), tensor("fare", "FP32", [12.5])]
    outputs = [InferRequestedOutput("scores", binary_data=False), InferRequestedOutput("prediction_ids")]
    result = await door.infer(inputs, outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["scores", "prediction_ids"]
    assert result.get_output("scores")["data"] == [0.5]
    assert result.as_numpy("prediction_ids").tolist() == [b"id-0"]


async def test_a_score_that_is_none_is_nan(door: Door) -> None:
    door.scorer.score_of = lambda row: None
    inputs = [tensor("zone", "INT64", [7]), tensor("fare", "FP64", [12.5])]
    for outputs in (None, [InferRequestedOutput("scores", binary_data=False)]):
        assert np.isnan((await door.infer(inputs, outputs)).as_numpy("scores")).all()


async def test_the_moment_asked_about_is_an_input_of_its_own(door: Door) -> None:
    at = tensor("at", "BYTES", ["2019-02-02T11:30:00Z"])
    await door.infer([tensor("zone", "INT64", [7]), tensor("fare", "FP64", [12.5]), at])
    assert door.scorer.asked[0].at_us == [NOW_US - 30 * 60 * 1_000_000]
    status, error = await door.refusal({"inputs": [ZONE, FARE, listed("at", "BYTES", ["2019-02-02T13:30:00Z"])]})
    assert (status, error.startswith("at[0]: Lies in the future")) == (422, True)


async def test_null_stands_for_a_nullable_field(door: Door) -> None:
    reply = await door.call("POST", "/v2/models/tip/infer", orjson.dumps(
        {"inputs": [listed("zone", "INT64", [[7], [8]], shape=[2, 1]), listed("fare", "FP64", [1, 2.5]),
                    listed("count", "INT64", [None, 3])], "id": None, "outputs": None, "model_name": "tip"}
    ))  # fmt: skip
    assert reply.status == 200, reply.body
    assert [row["count"] for row in door.scorer.asked[0].instances] == [None, 3]
    assert orjson.loads(reply.body)["outputs"][0]["data"] == [0.5, 0.5]


@pytest.mark.parametrize("encode", [("gzip", gzip.compress), ("deflate", zlib.compress)], ids=lambda e: e[0])
async def test_compressed_bodies_are_inflated_up_to_the_limit(door: Door, encode: Any) -> None:
    name, compress = encode
    good = compress(orjson.dumps(GOOD))
    assert (await door.call("POST", "/v2/models/tip/infer", good, content_encoding=name)).status == 200
    bomb = compress(b" " * 10_000_000)
    assert (await door.refusal(bomb, content_encoding=name))[0] == 413
    for broken in (good[:-3], good + b"more", b"{}", b""):
        assert (await door.refusal(broken, content_encoding=name))[0] == 400


async def test_another_encoding_is_refused_with_the_remedy(door: Door) -> None:
    status, error = await door.refusal(b"", content_encoding="br")
    assert (status, error) == (
        415,
        "Content-Encoding: The encoding 'br' is not supported. Send the body as it is, or as gzip or deflate.",
    )


SHAPES: list[Any] = [None, [], [0], [-1], [1, 2], [1.0], "1"]
BAD: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    ({}, "inputs: Must be an array of tensors, got null"),
    ({"inputs": []}, "inputs: "),
    ({"inputs": [7]}, "inputs: "),
    ({"inputs": [{"datatype": "INT64"}]}, "inputs[0].name"),
    ({"inputs": [ZONE]}, "fare: This input is missing. Send it as FP64"),
    ({"inputs": [ZONE, FARE, FARE]}, "fare: This input stands twice"),
    ({"inputs": [ZONE, FARE, listed("tip_amount", "FP64", [1.0])]}, "tip_amount: There is no such input"),
    ({"inputs": [ZONE, listed("fare", "FP64", [12.5, 1.0])]}, "inputs: The inputs differ in length: zone 1, fare 2"),
    ({"inputs": [listed("zone", "INT64", [7] * 5), listed("fare", "FP64", [1.0] * 5)]}, "at most 4"),
    ({"inputs": [listed("zone", "FP64", [7]), FARE]}, "zone.datatype: This is FP64. Use one of INT8"),
    ({"inputs": [listed("zone", "TEXT", [7]), FARE]}, "zone.datatype: This is 'TEXT'"),
    ({"inputs": [listed("zone", None, [7]), FARE]}, "zone.datatype: This is null"),
    ({"inputs": [listed("zone", "INT64", [7.5]), FARE]}, "zone[0]: Must be a whole number"),
    ({"inputs": [listed("zone", "INT64", [True]), FARE]}, "zone[0]: Must be a whole number"),
    ({"inputs": [listed("zone", "INT64", [None]), FARE]}, "zone[0]: Is null"),
    ({"inputs": [listed("zone", "INT64", [301]), FARE]}, "zone[0]: Must lie between 1 and 300, got 301"),
    ({"inputs": [ZONE, listed("fare", "FP64", ["x"])]}, "fare[0]: Must be a number"),
    ({"inputs": [ZONE, FARE, listed("vendor", "BYTES", ["x" * 257])]}, "vendor[0]: Must have 1 to 256"),
    ({"inputs": [ZONE, FARE, listed("vendor", "BYTES", [1])]}, "vendor[0]: Must be a string"),
    ({"inputs": [ZONE, FARE, listed("at", "BYTES", ["soon"])]}, "at[0]: Must be an ISO 8601 moment"),
    ({"inputs": [ZONE, FARE, listed("at", "INT64", [1])]}, "at.datatype"),
    ({"inputs": [ZONE | {"data": 7}, FARE]}, "zone.data: Must be an array"),
    ({"inputs": [ZONE | {"data": None}, FARE]}, "zone.data: Must be an array"),
    ({"inputs": [ZONE | {"data": [[7, 8]]}, FARE]}, "zone.data: Its arrays"),
    ({"inputs": [ZONE | {"shape": [2]}, FARE]}, "zone.data: Has 1 elements, the shape says 2"),
    *[({"inputs": [ZONE | {"shape": shape}, FARE]}, "zone.shape") for shape in SHAPES],
    ({"inputs": [ZONE | {"parameters": 7}, FARE]}, "zone.parameters: Must be an object"),
    ({"inputs": [ZONE | {"parameters": {"shared_memory_region": "r"}}, FARE]}, "zone: Shared memory"),
    ({"inputs": [ZONE | {"parameters": {"binary_data_size": 8}}, FARE]}, "zone.binary_data_size: This is 8, 0 bytes"),
    ({"inputs": [ZONE | {"parameters": {"binary_data_size": -1}}, FARE]}, "zone.binary_data_size"),
    ({"inputs": [ZONE | {"parameters": {"binary_data_size": 0}}, FARE]}, "zone: It has both data"),
    (GOOD | {"id": 7}, "id: Must be a string"),
    (GOOD | {"id": "x" * 257}, "id: Must be a string"),
    (GOOD | {"parameters": []}, "parameters: Must be an object"),
    (GOOD | {"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output"),
    (GOOD | {"outputs": {}}, "outputs: Must be an array"),
    (GOOD | {"outputs": [{"name": "probability"}]}, "outputs[0].name: There is no output 'probability'"),
    (GOOD | {"outputs": [{"name": []}]}, "outputs[0].name"),
    (GOOD | {"outputs": [{"name": "scores"}] * 2}, "outputs[1].name: scores stands twice"),
    (GOOD | {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]}, "outputs[0].parameters"),
    (GOOD | {"outputs": [{"name": "scores", "parameters": {"binary_data": "no"}}]}, "outputs[0].parameters"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "wanted"), BAD, ids=[wanted for _, wanted in BAD])
async def test_what_is_wrong_is_named_with_a_remedy(door: Door, document: Any, wanted: str) -> None:
    status, error = await door.refusal(document)
    assert 400 <= status < 500
    assert wanted in error
    assert any(word in error for word in ("Send", "Use", "Leave", "Make", "Split", "Shorten")), error
    assert not door.scorer.asked


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1001.0])
async def test_numbers_that_json_does_not_know_are_refused_as_bytes_too(door: Door, number: float) -> None:
    raw = np.array([number]).tobytes()
    binary = {"name": "fare", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
    head = orjson.dumps({"inputs": [ZONE, binary]})
    status, error = await door.refusal(head + raw, inference_header_content_length=str(len(head)))
    assert (status, error.startswith("fare[0]: Must be finite and lie between 0 and 1000")) == (422, True)


async def test_bytes_that_no_input_accounts_for_are_refused(door: Door) -> None:
    head = orjson.dumps(GOOD)
    status, error = await door.refusal(head + b"more", inference_header_content_length=str(len(head)))
    assert (status, "4 bytes follow the JSON, the inputs account for 0" in error) == (422, True)


@pytest.mark.parametrize("length", ["", "x", "-1", "1e3", "９", "100000", "9" * 30])
async def test_a_wrong_header_length_is_refused(door: Door, length: str) -> None:
    status, error = await door.refusal(GOOD, inference_header_content_length=length)
    assert (status, error.startswith("Inference-Header-Content-Length: ")) == (400, True)


async def test_all_faults_are_told_at_once(door: Door) -> None:
    _, error = await door.refusal({"inputs": [listed("zone", "INT64", [0]), listed("fare", "FP64", [-1])]})
    assert "zone[0]: " in error
    assert "fare[0]: " in error


async def test_the_server_and_its_models_describe_themselves(door: Door) -> None:
    assert "binary_tensor_data" in (await door.get("/v2"))["extensions"]
    assert await door.get("/v2/health/live") == {"live": True}
    assert await door.get("/v2/health/ready") == {"ready": True}
    model = await door.get("/v2/models/tip")
    assert model == await door.get("/v2/models/tip/versions/7")
    assert model["versions"] == ["7", "8"]
    assert {tensor["name"]: tensor["datatype"] for tensor in model["inputs"]} == {
        "zone": "INT64", "fare": "FP64", "vendor": "BYTES", "count": "INT64", "at": "BYTES",
    }  # fmt: skip
    config = await door.get("/v2/models/tip/config")
    assert [tensor["name"] for tensor in config["input"] if tensor["optional"]] == ["vendor", "count", "at"]
    assert config["version_policy"] == {"specific": {"versions": [7, 8]}}


async def test_a_model_is_ready_if_it_scores_its_example_and_nothing_is_logged(door: Door) -> None:
    assert await door.get("/v2/models/tip/ready") == {"name": "tip", "ready": True}
    assert await door.get("/v2/models/tip/versions/8/ready") == {"name": "tip", "ready": True}
    first, second = door.scorer.asked
    assert first.instances == [{"zone": 7, "fare": 12.5, "vendor": None, "count": None}]
    assert (first.log, first.version, second.log, second.version) == (False, None, False, "8")
    door.scorer.failure = DependencyDown("The model host", "it is down")
    for path in ("/v2/models/tip/ready", "/v2/health/ready"):
        reply = await door.call("GET", path)
        assert (reply.status, "it is down" in orjson.loads(reply.body)["error"]) == (503, True)
        assert (b"retry-after", b"1") in reply.headers


async def test_the_index_lists_versions_and_what_has_none(door: Door) -> None:
    rows = orjson.loads((await door.call("POST", "/v2/repository/index")).body)
    assert [(row["version"], row["state"]) for row in rows] == [("7", "READY"), ("8", "READY")]
    door.scorer.served = ()
    (row,) = orjson.loads((await door.call("POST", "/v2/repository/index", b"{}")).body)
    assert row["state"] == "UNAVAILABLE"
    assert orjson.loads((await door.call("POST", "/v2/repository/index", b'{"ready": true}')).body) == []
    assert (await door.call("POST", "/v2/models/tip/infer", orjson.dumps(GOOD))).status == 503


async def test_a_named_version_answers_or_is_refused_with_those_that_do(door: Door) -> None:
    reply = await door.call("POST", "/v2/models/tip/versions/8/infer", orjson.dumps(GOOD))
    assert orjson.loads(reply.body)["model_version"] == "8"
    for verb in ("", "/ready", "/config", "/infer"):
        reply = await door.call("POST" if verb == "/infer" else "GET", f"/v2/models/tip/versions/6{verb}")
        assert reply.status == 404
        assert orjson.loads(reply.body)["error"] == (
            "version: Version '6' of tip does not answer. Leave it out, or use one of: 7, 8."
        )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/tap", 404),
        ("POST", "/v2/models/tap/infer", 404),
        ("GET", "/v2/models/tip/infer", 405),
        ("POST", "/v2/models/tip", 405),
        ("DELETE", "/v2", 405),
        ("GET", "/v2/models/tip/stats", 404),
        ("GET", "/v2/models/tip/versions/7/infer/more", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/" + "x" * 500, 404),
        ("POST", "/v2/repository/models/tip/load", 404),
        ("HEAD", "/v2/models/tip", 200),
    ],
)
async def test_paths_and_methods(door: Door, method: str, path: str, status: int) -> None:
    reply = await door.call(method, path)
    assert reply.status == status
    assert len(reply.body) < 1000
    assert status == 200 or set(orjson.loads(reply.body)) == {"error"}
    assert len(route_of(path)) < 40


@given(body=st.binary(max_size=60), header=st.none() | st.integers(0, 60), encoding=st.sampled_from(["", "gzip"]))
async def test_no_bytes_are_the_servers_fault(door: Door, body: bytes, header: int | None, encoding: str) -> None:
    headers = {} if header is None else {"inference_header_content_length": str(header)}
    reply = await door.call("POST", "/v2/models/tip/infer", body, content_encoding=encoding, **headers)
    assert reply.status < 500


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["name", "datatype", "shape", "data", "parameters", "outputs", "id", "inputs"]), JSON_VALUES)
async def test_no_document_is_the_servers_fault(door: Door, key: str, value: Any) -> None:
    document: dict[str, Any] = (
        GOOD | {key: value}
        if key in ("outputs", "id", "inputs", "parameters")
        else {"inputs": [ZONE | {key: value}, FARE]}
    )
    reply = await door.call("POST", "/v2/models/tip/infer", _lenient(document))
    assert reply.status < 500


def _lenient(document: Any) -> bytes:
    """JSON with whole numbers of any size, which orjson does not write."""
    import json

    return json.dumps(document).encode()
