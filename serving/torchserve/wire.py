"""What is asked of a served version, and how it answers: JSON over TorchServe's inference API."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from core.errors import InvalidField, RequestError
from core.use_case import Field

_LARGEST_US = 2**62


@dataclass(frozen=True)
class Question:
    """One parsed call.

    Args:
        instances: n mappings with the entities and request fields, n at least 1.
        at_us: shape (n,), when each is asked about, microseconds since 1970 UTC.
        now_us: the moment of the call.
        prediction_ids: n ids, or None if the handler is to issue them.
        log: whether the answer goes to the prediction log.
    """

    instances: Sequence[Mapping[str, Any]]
    at_us: npt.NDArray[np.int64]
    now_us: int
    prediction_ids: Sequence[str] | None
    log: bool


def parse(body: object, *, clock_us: int) -> Question:
    """Read a call.

    Args:
        body: bytes or text of a JSON object, or the object itself.
        clock_us: now, where the call does not say.

    Raises:
        RequestError: naming the field at fault.
    """
    call = _object(body)
    instances = call.get("instances")
    if not isinstance(instances, list) or not instances or not all(isinstance(row, dict) for row in instances):
        raise InvalidField(
            f"This is {_shown(instances)}.", field="instances", remedy="Send a list of at least one object."
        )
    now_us = call.get("now_us")
    now_us = clock_us if now_us is None else _moment(now_us, "now_us")
    at_us = call.get("at_us")
    if at_us is None:
        at_us = [now_us] * len(instances)
    elif _as_many(at_us, instances, "at_us"):
        at_us = [_moment(value, f"at_us[{i}]") for i, value in enumerate(at_us)]
    ids = call.get("prediction_ids")
    if ids is not None and _as_many(ids, instances, "prediction_ids") and not all(isinstance(i, str) for i in ids):
        raise InvalidField("Not every id is a string.", field="prediction_ids", remedy="Send strings, or leave it out.")
    log = call.get("log", True)
    if not isinstance(log, bool):
        raise InvalidField(f"This is {_shown(log)}.", field="log", remedy="Send true or false.")
    return Question(instances, np.array(at_us, dtype=np.int64), now_us, ids, log)


def require_fields(fields: Sequence[Field], instances: Sequence[Mapping[str, Any]]) -> None:
    """Raise InvalidField unless every instance has a value in each of these (not nullable) fields."""
    for field in fields:
        name = field.name
        for i, row in enumerate(instances):
            if row.get(name) is None:
                raise InvalidField("It is missing.", field=f"instances[{i}].{name}", remedy=_remedy(field))


def find_fault(fields: Sequence[Field], instances: Sequence[Mapping[str, Any]]) -> RequestError | None:
    """The first value that is not of its field's type; slow, for when assembling the features failed."""
    for i, row in enumerate(instances):
        for field in fields:
            value = row.get(field.name)
            if (value is None and field.nullable) or _fits(field, value):
                continue
            return InvalidField(
                f"This is {_shown(value)}.", field=f"instances[{i}].{field.name}", remedy=_remedy(field)
            )
    return None


def answer(
    *, scores: npt.NDArray[np.float32], ids: Sequence[str], degraded: Sequence[Sequence[str]], version: str
) -> bytes:
    """The reply as JSON; a score that is not finite becomes null."""
    return orjson.dumps(
        {
            "predictions": scores.tolist(),
            "prediction_ids": list(ids),
            "degraded": [list(reasons) for reasons in degraded],
            "model_version": version,
        }
    )


def _object(body: object) -> dict[str, Any]:
    if isinstance(body, (bytes, bytearray, str)):
        try:
            body = orjson.loads(body)
        except ValueError as error:
            raise RequestError(f"The body is not JSON ({error}).", remedy="Send one JSON object.") from error
    if not isinstance(body, dict):
        raise RequestError(f"The body is {_shown(body)}.", remedy='Send an object such as {"instances": [{…}]}.')
    return body


def _as_many(values: object, instances: Sequence[Any], field: str) -> bool:
    if not isinstance(values, list) or len(values) != len(instances):
        raise InvalidField(
            f"This is {_shown(values)}, there are {len(instances)} instances.",
            field=field,
            remedy="Send one per instance, or leave it out.",
        )
    return True


def _moment(value: object, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST_US:
        raise InvalidField(f"This is {_shown(value)}.", field=field, remedy="Send microseconds since 1970 UTC.")
    return value


def _fits(field: Field, value: object) -> bool:
    if field.dtype == "str":
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if field.dtype == "int":
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return isinstance(value, (int, float)) and math.isfinite(value)


def _remedy(field: Field) -> str:
    wanted = {"int": "a whole number", "float": "a finite number", "str": "a string"}[field.dtype]
    return f"Send {wanted}{' or null' if field.nullable else ''}."


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
