"""A call in the Open Inference Protocol: tensors ``user`` [1], ``ads`` [n] and ``fields`` [8]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from bench.workload import Ask


def tensors(ask: Ask) -> dict[str, Any]:
    """A call for MLServer."""
    named = (("user", "INT64", [ask.user]), ("ads", "INT64", list(ask.ads)), ("fields", "FP32", list(ask.fields)))
    return {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [len(data)], "data": data} for name, datatype, data in named
        ]
    }


def batched_tensors(ask: Ask) -> dict[str, Any]:
    """A call for Triton, whose tensors begin with the dimension it gathers calls along."""
    return {"inputs": [{**each, "shape": [1, *each["shape"]]} for each in tensors(ask)["inputs"]]}


def first_output(body: bytes) -> Sequence[float]:
    """The scores."""
    data: list[float] = orjson.loads(body)["outputs"][0]["data"]
    return data
