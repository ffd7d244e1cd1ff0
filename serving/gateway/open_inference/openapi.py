"""Describing the protocol's calls in the OpenAPI document, with each use case's own inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.use_case import Field, UseCase
from serving.gateway.open_inference.columns import AT, DATATYPE
from serving.gateway.open_inference.reply import OUTPUT_DATATYPE
from serving.gateway.open_inference.request import OUTPUTS
from serving.gateway.openapi import example_of, field_schema
from serving.open_inference.tensors import BYTES, HEADER_LENGTH

_TAG: Final = "open inference protocol"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What is wrong, where, and what to do."}},
}
_REFUSALS: Final = {
    "400": "The body is not JSON, or a header is wrong.",
    "401": "The API key is missing or wrong.",
    "404": "The name is unknown, or the version answers nobody.",
    "413": "The body is too large.",
    "415": "The body is compressed in a way that is not understood.",
    "422": "An input or an output is wrong.",
    "503": "Something needed is not there right now; Retry-After says when to try again.",
}
_SHAPE: Final = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2}


def describe_open_inference(
    document: dict[str, Any], use_cases: Mapping[str, UseCase], *, max_instances: int, parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    """Add the calls below ``/v2`` to an OpenAPI 3.1 document.

    Args:
        document: changed and returned.
        use_cases: by name.
        max_instances: most instances per call.
        parameters: of every call that predicts, besides its own.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"V2Error": _ERROR, "V2Outputs": _outputs(), "V2Model": _model()}
    paths = document.setdefault("paths", {})
    paths["/v2"] = _get("The server's name and extensions", {"type": "object"})
    paths["/v2/health/live"] = _get("Whether the process lives", _flag("live"))
    paths["/v2/health/ready"] = _get("Whether requests can be answered", _flag("ready"))
    paths["/v2/repository/index"] = {"post": _operation("Every use case and the versions that answer", _index())}
    for name, use_case in use_cases.items():
        schemas[f"{name}.V2Request"] = _request(use_case, max_instances)
        path = f"/v2/models/{name}"
        paths[path] = _get(f"The tensors of {name}", _reference("V2Model"))
        paths[f"{path}/config"] = _get(f"The tensors of {name}, as Triton's configuration", {"type": "object"})
        paths[f"{path}/ready"] = _get(f"Whether {name} scores its example", _flag("ready"), parameters)
        paths[f"{path}/infer"] = {"post": _infer(f"Infer with {name}", name, parameters)}
        version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
        paths[f"{path}/versions/{{version}}"] = _get(
            f"The tensors of a version of {name}", _reference("V2Model"), [version]
        )
        paths[f"{path}/versions/{{version}}/ready"] = _get(
            f"Whether a version of {name} scores its example", _flag("ready"), [version, *parameters]
        )
        paths[f"{path}/versions/{{version}}/infer"] = {
            "post": _infer(f"Infer with a version of {name}", name, [version, *parameters])
        }
    return document


def _operation(
    summary: str, answer: Mapping[str, Any], parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    refusal = {"application/json": {"schema": _reference("V2Error")}}
    success = {"description": "Success.", "content": {"application/json": {"schema": answer}}}
    return {
        "tags": [_TAG],
        "summary": summary,
        "operationId": "v2_" + summary.lower().replace(" ", "_").replace(",", "").replace("'", ""),
        "parameters": parameters or [],
        "responses": {
            "200": success,
            **{code: {"description": text, "content": refusal} for code, text in _REFUSALS.items()},
        },
    }


def _get(summary: str, answer: Mapping[str, Any], parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"get": _operation(summary, answer, parameters)}


def _infer(summary: str, name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    header = {
        "name": HEADER_LENGTH,
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "How many bytes of the body are JSON, if tensors follow it as bytes.",
    }
    operation = _operation(summary, _reference("V2Outputs"), [header, *parameters])
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _reference(f"{name}.V2Request")}},
    }
    return operation


def _request(use_case: UseCase, most: int) -> dict[str, Any]:
    fields = [*use_case.request_fields, Field(name=AT, dtype="str", nullable=True)]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": 256, "description": "Comes back with the answer."},
            "parameters": {"type": ["object", "null"]},
            "inputs": {
                "type": "array",
                "minItems": 1,
                "description": "One tensor per field; those of nullable fields, and `at`, may be left out.",
                "items": {"oneOf": [_tensor(field, most) for field in fields]},
            },
            "outputs": {
                "type": ["array", "null"],
                "description": "The outputs to send; all, if left out.",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": {"type": ["object", "null"]}},
                },
            },
        },
        "examples": [{"inputs": [_example(field) for field in fields if not field.nullable]}],
    }


def _tensor(field: Field, most: int) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": field.name},
            "datatype": {"const": DATATYPE[field.dtype]},
            "shape": {**_SHAPE, "description": "[n] or [n, 1]."},
            "data": {"type": "array", "minItems": 1, "maxItems": most, "items": field_schema(field)},
        },
    }


def _example(field: Field) -> dict[str, Any]:
    return {"name": field.name, "shape": [1], "datatype": DATATYPE[field.dtype], "data": [example_of(field)]}


def _outputs() -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"enum": list(OUTPUTS)},
            "datatype": {"enum": sorted({*OUTPUT_DATATYPE.values()})},
            "shape": _SHAPE,
            "data": {"type": "array", "items": {"type": ["number", "string", "null"]}},
            "parameters": {"type": "object"},
        },
    }
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string", "description": "The version that answered."},
            "outputs": {"type": "array", "items": tensor},
        },
        "examples": [
            {
                "model_name": "taxi_tip",
                "model_version": "7",
                "outputs": [
                    {"name": "scores", "datatype": "FP32", "shape": [1], "data": [0.42]},
                    {"name": "degraded", "datatype": BYTES, "shape": [1], "data": [""]},
                ],
            }
        ],
    }


def _model() -> dict[str, Any]:
    tensor = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "datatype": {"type": "string"}, "shape": {"type": "array"}},
    }
    return {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": tensor},
            "outputs": {"type": "array", "items": tensor},
        },
    }


def _index() -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in ("name", "version", "state", "reason")}
    return {"type": "array", "items": {"type": "object", "required": ["name", "state"], "properties": properties}}


def _flag(name: str) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
