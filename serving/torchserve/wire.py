"""What is asked of a served version, and how it answers: JSON over TorchServe's inference API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from core.errors import InvalidField, RequestError
from core.prediction_ids import MOST, ids_of
from core.use_case import Field
from features.online.instances import Instances
from features.streams import ANSWER, SHADOW

_LARGEST_US = 2**62


@dataclass(frozen=True)
class Question:
    """One parsed call.

    Args:
        instances: n instances with the entities and request fields, n at least 1.
        at_us: shape (n,), when each is asked about, microseconds since 1970 UTC.
        now_us: the moment of the call.
        ids: of each run of instances, how many and what their prediction ids begin with; empty if the handler is to
            issue them.
        logged: which instances go to the prediction log, shape (n,); None: all of them.
        until_us: wall-clock moment, µs since 1970 UTC, after which nobody waits for the answer; None: somebody does.
        role: ``answer``, or ``shadow`` for scores that no client gets.
        brings_ids: whether the caller made the ids, and knows them.
    """

    instances: Instances
    at_us: npt.NDArray[np.int64]
    now_us: int
    ids: Sequence[tuple[int, str]] = ()
    logged: npt.NDArray[np.bool_] | None = None
    until_us: int | None = None
    role: str = ANSWER
    brings_ids: bool = True

    def prediction_ids(self) -> list[str]:
        """The n ids."""
        return [identity for n, base in self.ids for identity in ids_of(base, n)]


def parse(body: object, *, clock_us: int) -> Question:
    """Read a call.

    A client of the host sends ``instances``, and optionally ``at_us`` (n), ``now_us`` and ``log``. A gateway sends,
    besides ``instances``, ``calls``: of each client's call the number of instances, the moment or moments they are
    asked for, what their prediction ids begin with, the fields that they share (or null), and whether they are logged;
    and ``until_us``, by the wall clock also where history is replayed.

    Args:
        body: bytes or text of a JSON object, or the object itself.
        clock_us: now, where the call does not say.

    Raises:
        RequestError: naming the field at fault.
    """
    call = _object(body)
    rows = call.get("instances")
    if type(rows) is not list or not rows or set(map(type, rows)) != {dict}:
        raise InvalidField(f"This is {_shown(rows)}.", field="instances", remedy="Send a list of at least one object.")
    if len(rows) > MOST:
        raise InvalidField(f"This is {_shown(rows)}.", field="instances", remedy=f"Send at most {MOST}.")
    now_us = call.get("now_us")
    now_us = clock_us if now_us is None else _moment(now_us, "now_us")
    role = call.get("role", ANSWER)
    if role not in (ANSWER, SHADOW):
        raise InvalidField(f"This is {_shown(role)}.", field="role", remedy=f"Send {ANSWER!r} or {SHADOW!r}.")
    if "calls" in call:
        return _of_gateway(call, rows, now_us, role)
    at_us = call.get("at_us")
    if at_us is None:
        at_us = [now_us] * len(rows)
    elif _as_many(at_us, rows, "at_us"):
        at_us = [_moment(value, f"at_us[{i}]") for i, value in enumerate(at_us)]
    log = call.get("log", True)
    if not isinstance(log, bool):
        raise InvalidField(f"This is {_shown(log)}.", field="log", remedy="Send true or false.")
    logged = None if log else np.zeros(len(rows), dtype=bool)
    return Question(Instances(rows), np.array(at_us, dtype=np.int64), now_us, logged=logged, role=role)


def _of_gateway(call: dict[str, Any], rows: list[dict[str, Any]], now_us: int, role: str) -> Question:
    try:
        sizes = [n for n, *_ in call["calls"]]
        if sum(sizes) != len(rows):
            raise ValueError(f"{sum(sizes)} instances announced, {len(rows)} sent")
        at_us = np.concatenate([np.broadcast_to(np.asarray(at, np.int64), n) for n, at, *_ in call["calls"]])
        shared = any(context for *_, context, _ in call["calls"])
        runs = [(n, context or {}) for n, _, _, context, _ in call["calls"]] if shared else []
        logs = [log for *_, log in call["calls"]]
        logged = None if all(logs) else np.repeat(np.array(logs, dtype=bool), sizes)
        ids = [(n, base) for n, _, base, _, _ in call["calls"]]
        until_us = call.get("until_us")
        until_us = None if until_us is None else int(until_us)
        return Question(Instances(rows, runs), at_us, now_us, ids, logged, until_us, role)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidField(f"It cannot be read ({error}).", field="calls", remedy="Send one entry per call.") from error


def together(questions: Sequence[Question]) -> Question:
    """One question of all instances of several questions with ids, in order."""
    if len(questions) == 1:
        return questions[0]
    runs = [(n, shared) for q in questions for n, shared in q.instances.runs or [(len(q.instances), {})]]
    logged = [np.ones(len(q.instances), dtype=bool) if q.logged is None else q.logged for q in questions]
    return Question(
        Instances([row for q in questions for row in q.instances.rows], runs if any(x for _, x in runs) else ()),
        np.concatenate([q.at_us for q in questions]),
        max(q.now_us for q in questions),
        [run for q in questions for run in q.ids],
        np.concatenate(logged),
        role=questions[0].role,
    )


def require_fields(fields: Sequence[Field], instances: Instances) -> None:
    """Raise InvalidField unless every instance has a value in each of these (not nullable) fields."""
    for field in fields:
        column = instances.shared(field.name) or instances.column(field.name)
        if None in column:
            where = f"instances[{instances.column(field.name).index(None)}].{field.name}"
            raise InvalidField("It is missing.", field=where, remedy=_remedy(field))


def find_fault(fields: Sequence[Field], instances: Instances) -> RequestError | None:
    """The first value that is not of its field's type; slow, for when assembling the features failed."""
    for i, row in enumerate(instances.plain()):
        for field in fields:
            value = row.get(field.name)
            if (value is None and field.nullable) or _fits(field, value):
                continue
            return InvalidField(
                f"This is {_shown(value)}.", field=f"instances[{i}].{field.name}", remedy=_remedy(field)
            )
    return None


def answer(
    *,
    scores: npt.NDArray[np.float32],
    degraded: Sequence[Sequence[str]],
    version: str,
    ids: Sequence[str] | None = None,
    timing: Sequence[float] = (0.0, 0.0, 0.0),
    logged: str = "",
) -> bytes:
    """The reply as JSON; a score that is not finite becomes null.

    Args:
        scores: shape (n,).
        degraded: of each instance, why values are defaults.
        version: the version that answers.
        ids: the prediction ids, where the caller did not bring them.
        timing: seconds for the features, the model and the log.
        logged: where the predictions were logged; empty if nowhere.
    """
    reply: dict[str, Any] = {
        "predictions": np.ascontiguousarray(scores, dtype=np.float32),
        "degraded": [{"instance": i, "reasons": reasons} for i, reasons in enumerate(degraded) if reasons],
        "model_version": version,
        "timing": timing,
        "logged": logged,
    }
    if ids is not None:
        reply["prediction_ids"] = ids
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


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
