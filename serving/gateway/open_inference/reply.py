"""What goes back to a client of the protocol: tensors, or an error as its clients expect one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from core.errors import EvergreenError
from serving.gateway.open_inference.request import InferRequest
from serving.gateway.open_inference.scorer import Scored
from serving.gateway.problems import internal_problem, problem_for
from serving.open_inference.tensors import BYTES, HEADER_LENGTH, to_bytes

JSON: Final = b"application/json"
OUTPUT_DATATYPE: Final[Mapping[str, str]] = {"scores": "FP32", "prediction_ids": BYTES, "degraded": BYTES}
_BINARY: Final = b"application/octet-stream"
_HEADER: Final = HEADER_LENGTH.lower().encode()


@dataclass(frozen=True, slots=True)
class V2Reply:
    """An answer, ready to be sent.

    Args:
        status: HTTP status.
        body: JSON, and after it the tensors sent as bytes.
        media_type: of the body.
        headers: further headers, lower-case names.
    """

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def page(document: Any, status: int = 200) -> V2Reply:
    """A JSON document as an answer."""
    return V2Reply(status, orjson.dumps(document))


def inferred(use_case: str, request: InferRequest, scored: Scored) -> V2Reply:
    """The outputs the request asks for."""
    values: dict[str, list[Any]] = {
        "scores": list(scored.scores),
        "prediction_ids": list(scored.ids),
        "degraded": ["; ".join(reasons) for reasons in scored.degraded],
    }
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in request.outputs.items():
        output: dict[str, Any] = {"name": name, "datatype": OUTPUT_DATATYPE[name], "shape": [len(scored.scores)]}
        if binary:
            tail.append(to_bytes(OUTPUT_DATATYPE[name], values[name]))
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values[name]
        outputs.append(output)
    document = {"model_name": use_case, "model_version": scored.version, "outputs": outputs}
    head = orjson.dumps({"id": request.identity, **document} if request.identity else document)
    if not tail:
        return V2Reply(200, head)
    return V2Reply(200, b"".join([head, *tail]), _BINARY, ((_HEADER, b"%d" % len(head)),))


def refused(error: EvergreenError | None) -> V2Reply:
    """An error as ``{"error": …}``: every fault with its field and remedy; None stands for a fault of the gateway."""
    problem = internal_problem() if error is None else problem_for(error)
    document = orjson.loads(problem.body)
    faults = document.get("errors") or [document]
    return V2Reply(problem.status, orjson.dumps({"error": " ".join(map(_sentence, faults))}), headers=problem.headers)


def _sentence(fault: Mapping[str, Any]) -> str:
    place = f"{fault['field']}: " if fault["field"] else ""
    return f"{place}{fault['detail']} {fault['remedy']}"
