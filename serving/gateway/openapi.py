"""Describing the calls that carry traffic in the OpenAPI document, with each use case's own fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.use_case import EventSource, Field, UseCase
from serving.gateway.exchange import LONGEST_TIMEOUT_MS, TIMEOUT_HEADER
from serving.gateway.validation import LONGEST_TEXT

_EXAMPLE_ID = "0168af3c0a50" + "0f1e2d3c4b" + "9a8b7c6d5e4f"
_REFUSALS = {
    "400": "The body is not one JSON object, or a header is wrong.",
    "401": "The API key is missing, wrong, revoked or expired.",
    "403": "The API key may not do that.",
    "404": "The name is unknown.",
    "413": "The body is too large.",
    "422": "A field is wrong.",
    "429": "The API key made more calls than it may. Retry-After says when to try again.",
    "503": "Something needed is not there right now; Retry-After says when to try again.",
}
_FULL = {
    "429": "The API key made more calls than it may, or more comes than is read; nothing was stored. "
    "Retry-After says when to send it again."
}
_LATE = {"408": "The answer was not there by the deadline that the request set."}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem document.",
    "required": ["type", "title", "status", "detail", "field", "remedy"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, with the value."},
        "field": {"type": ["string", "null"], "description": "Path of the offending field."},
        "remedy": {"type": "string", "description": "What to do."},
        "errors": {
            "type": "array",
            "description": "All faults, at most ten, if there is more than one.",
            "items": {
                "type": "object",
                "required": ["field", "detail", "remedy"],
                "properties": {name: {"type": "string"} for name in ("field", "detail", "remedy")},
            },
        },
    },
}
_AT = {"type": "string", "format": "date-time"}
_TIMEOUT_PARAMETER = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS},
    "description": "Milliseconds within which the answer is of use; 408 if it is not there by then.",
}


def describe(
    document: dict[str, Any],
    use_cases: Mapping[str, UseCase],
    sources: Mapping[str, EventSource],
    *,
    max_instances: int,
    max_events: int,
    needs_key: bool,
    needs_now: bool,
) -> dict[str, Any]:
    """Add the predict, feedback and events calls to an OpenAPI 3.1 document.

    Args:
        document: as FastAPI generates it; changed and returned.
        use_cases: by name.
        sources: by name.
        max_instances: most instances per call.
        max_events: most events or labels per call.
        needs_key: whether calls must carry an API key; else it depends on whether one was issued.
        needs_now: whether calls must say which moment counts as now.
    """
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    schemas["Predictions"] = _predictions()
    schemas["Labels"] = _labels(max_events)
    now = now_parameters(needs_now)
    paths = document.setdefault("paths", {})
    _correct_refusals(paths)
    for name, use_case in use_cases.items():
        at = {**_AT, "description": "The moment the prediction is for; now if left out."}
        whole = _batch("instances", use_case.request_fields, {"at": at}, (), max_instances)
        schemas[f"{name}.Instances"] = _with_context(whole, use_case.request_fields)
        paths[f"/v1/models/{name}/predict"] = _post(
            f"Predict {name}",
            use_case.description,
            f"{name}.Instances",
            ("200", "Scores.", "Predictions"),
            [*now, _TIMEOUT_PARAMETER],
        )
        paths[f"/v1/models/{name}/feedback"] = _post(
            f"Label predictions of {name}", use_case.label.description, "Labels", ("202", "Stored.", None), now
        )
    for name, source in sources.items():
        further = {
            "id": {"type": "string", "description": "Unique within the source.", "maxLength": LONGEST_TEXT},
            "at": {**_AT, "description": "When it happened."},
        }
        schemas[f"{name}.Events"] = _batch("events", source.fields, further, ("id", "at"), max_events)
        paths[f"/v1/events/{name}"] = _post(
            f"Send events of {name}", source.description, f"{name}.Events", ("202", "Stored.", None), now
        )
    components["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    document["security"] = [{"key": []}] if needs_key else [{"key": []}, {}]
    return document


def _correct_refusals(paths: Mapping[str, Any]) -> None:
    """Pages answer refusals with problem documents, not with FastAPI's own."""
    refusal = {"application/problem+json": {"schema": _reference("Problem")}}
    for operations in paths.values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "A problem.", "content": refusal}


def field_schema(field: Field) -> dict[str, Any]:
    """JSON Schema of one declared field."""
    kind: dict[str, Any] = {"type": {"int": "integer", "float": "number", "str": "string"}[field.dtype]}
    if field.dtype == "int":
        kind["format"] = "int64"
    if field.dtype == "str":
        kind |= {"minLength": 1, "maxLength": LONGEST_TEXT}
    if field.nullable:
        kind["type"] = [kind["type"], "null"]
    if field.ge is not None:
        kind["minimum"] = field.ge
    if field.le is not None:
        kind["maximum"] = field.le
    if field.description:
        kind["description"] = field.description
    if field.example is not None:
        kind["examples"] = [field.example]
    return kind


def example_of(field: Field) -> int | float | str | None:
    """A valid value: the declared example, else one that fits the declaration."""
    if field.example is not None or field.nullable:
        return field.example
    if field.dtype == "str":
        return "text"
    near = min(1.0, field.le if field.le is not None else 1.0)
    low = max(near, field.ge if field.ge is not None else near)
    return int(-(-low // 1)) if field.dtype == "int" else float(low)


def _batch(
    key: str, fields: Sequence[Field], further: Mapping[str, Any], required: Sequence[str], most: int
) -> dict[str, Any]:
    needed = [*required, *(field.name for field in fields if not field.nullable)]
    example: dict[str, Any] = {field.name: example_of(field) for field in fields}
    if "id" in further:
        example = {"id": "event-1", "at": "2019-02-02T12:00:00Z", **example}
    return {
        "type": "object",
        "required": [key],
        "additionalProperties": False,
        "properties": {
            key: {
                "type": "array",
                "minItems": 1,
                "maxItems": most,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": needed,
                    "properties": {**further, **{field.name: field_schema(field) for field in fields}},
                },
            }
        },
        "examples": [{key: [example]}],
    }


def _with_context(whole: dict[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    """Instances that are whole each, or that have what they share in a context of its own."""
    rows = whole["properties"]["instances"]
    context = {
        "type": "object",
        "description": "Fields that are the same for all instances, such as the user for whom candidates are ranked. "
        "Each field stands here, or in every instance that needs it.",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {field.name: field_schema(field) for field in fields},
    }
    parts = {**rows, "items": {**rows["items"], "required": []}}
    shared = {
        "type": "object",
        "required": ["context", "instances"],
        "additionalProperties": False,
        "properties": {"context": context, "instances": parts},
    }
    examples = whole["examples"]
    return {"anyOf": [{k: v for k, v in whole.items() if k != "examples"}, shared], "examples": examples}


def _post(
    summary: str,
    description: str,
    schema: str,
    success: tuple[str, str, str | None],
    parameters: list[dict[str, Any]],
) -> dict[str, Any]:
    status, meaning, answer = success
    content = _reference(answer) if answer else {"type": "object", "properties": _ACCEPTED}
    refusal = {"application/problem+json": {"schema": _reference("Problem")}}
    responses: dict[str, Any] = {status: {"description": meaning, "content": {"application/json": {"schema": content}}}}
    refusals = _REFUSALS | (_LATE if answer else _FULL)
    responses |= {code: {"description": text, "content": refusal} for code, text in refusals.items()}
    return {
        "post": {
            "tags": ["traffic"],
            "summary": summary,
            "description": description,
            "operationId": summary.lower().replace(" ", "_"),
            "parameters": parameters,
            "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(schema)}}},
            "responses": responses,
        }
    }


_ACCEPTED = {
    "accepted": {"type": "integer", "description": "How many were stored."},
    "positions": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "description": "Events only: position in the log of each partition that was written to.",
    },
}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _predictions() -> dict[str, Any]:
    reasons = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "required": ["predictions", "prediction_ids", "model_version", "degraded"],
        "properties": {
            "predictions": {
                "type": "array",
                "items": {"type": ["number", "null"]},
                "description": "Probability per instance; null if the model gave no finite score.",
            },
            "prediction_ids": {"type": "array", "items": {"type": "string"}, "description": "To send labels with."},
            "model_version": {"type": "string", "description": "The version that answered (the first instance)."},
            "model_versions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The version per instance; there only if several versions share the traffic and did.",
            },
            "degraded": {
                "type": "array",
                "description": "Instances answered with a default in place of a missing or stale feature.",
                "items": {"type": "object", "properties": {"instance": {"type": "integer"}, "reasons": reasons}},
            },
        },
        "examples": [
            {"predictions": [0.42], "prediction_ids": [_EXAMPLE_ID], "model_version": "7", "degraded": []},
        ],
    }


def _labels(most: int) -> dict[str, Any]:
    label = {
        "type": "object",
        "additionalProperties": False,
        "required": ["prediction_id", "label"],
        "properties": {
            "prediction_id": {"type": "string", "description": "As returned by predict."},
            "label": {"type": "integer", "enum": [0, 1]},
            "at": {**_AT, "description": "When it became known; now if left out."},
        },
    }
    return {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {"labels": {"type": "array", "minItems": 1, "maxItems": most, "items": label}},
        "examples": [{"labels": [{"prediction_id": _EXAMPLE_ID, "label": 1}]}],
    }


def now_parameters(needs_now: bool) -> list[dict[str, Any]]:
    """The parameters of a call that says which moment counts as now, if calls must."""
    header = {
        "name": "X-Evergreen-Now",
        "in": "header",
        "required": True,
        "schema": _AT,
        "description": "The moment that counts as now: this gateway replays history.",
    }
    return [header] if needs_now else []
