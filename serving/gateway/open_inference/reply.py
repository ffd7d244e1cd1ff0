"""What goes back to a client of the protocol: tensors, or an error as its clients expect one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from serving.gateway.exchange import Reply
from serving.gateway.open_inference.request import InferRequest
from serving.gateway.open_inference.scorer import Scored
from serving.gateway.problems import Problem
from serving.open_inference.tensors import BYTES, HEADER_LENGTH, to_bytes

OUTPUT_DATATYPE: Final[Mapping[str, str]] = {"scores": "FP32", "prediction_ids": BYTES, "degraded": BYTES}
_BINARY: Final = b"application/octet-stream"
_HEADER: Final = HEADER_LENGTH.lower().encode()


def page(document: Any, status: int = 200) -> Reply:
    """A JSON document as an answer."""
    return Reply(status, orjson.dumps(document))


def inferred(use_case: str, request: InferRequest, scored: Scored) -> Reply:
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
        return Reply(200, head)
    return Reply(200, b"".join([head, *tail]), ((_HEADER, b"%d" % len(head)),), _BINARY)


def as_error(problem: Problem) -> Reply:
    """A problem as ``{"error": …}``, which the protocol's clients expect: every fault with its field and remedy."""
    document = orjson.loads(problem.body)
    faults = document.get("errors") or [document]
    return Reply(problem.status, orjson.dumps({"error": " ".join(map(_sentence, faults))}), problem.headers)


def _sentence(fault: Mapping[str, Any]) -> str:
    place = f"{fault['field']}: " if fault["field"] else ""
    return f"{place}{fault['detail']} {fault['remedy']}"
