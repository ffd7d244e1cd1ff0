"""How the protocol's metadata calls describe the gateway and its use cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from core.use_case import UseCase
from serving.gateway.open_inference.columns import AT, DATATYPE
from serving.gateway.open_inference.reply import OUTPUT_DATATYPE
from serving.open_inference.tensors import BYTES

READY: Final = "READY"
_VERSION: Final = "1"  # of the gateway's API, as in /v1 and the OpenAPI document
_EXTENSIONS: Final = ("binary_tensor_data", "model_configuration")
_PLATFORM: Final = "evergreen_onnx"
_PER_INSTANCE: Final = [-1]


def server() -> dict[str, Any]:
    """Who answers."""
    return {"name": "evergreen", "version": _VERSION, "extensions": list(_EXTENSIONS)}


def model(use_case: UseCase, versions: Sequence[str]) -> dict[str, Any]:
    """A use case's tensors. Those of nullable fields, and ``at``, may be left out."""
    return {
        "name": use_case.name,
        "versions": list(versions),
        "platform": _PLATFORM,
        "inputs": [{"name": n, "datatype": d, "shape": _PER_INSTANCE} for n, d in _inputs(use_case).items()],
        "outputs": [{"name": n, "datatype": d, "shape": _PER_INSTANCE} for n, d in OUTPUT_DATATYPE.items()],
    }


def config(use_case: UseCase, versions: Sequence[str]) -> dict[str, Any]:
    """The same as Triton's model configuration."""
    optional = {AT, *(field.name for field in use_case.request_fields if field.nullable)}
    return {
        "name": use_case.name,
        "platform": _PLATFORM,
        "version_policy": {"specific": {"versions": [int(v) for v in versions if v.isdecimal()]}},
        "max_batch_size": 0,
        "input": [
            {"name": n, "data_type": _configured(d), "dims": _PER_INSTANCE, "optional": n in optional}
            for n, d in _inputs(use_case).items()
        ],
        "output": [{"name": n, "data_type": _configured(d), "dims": _PER_INSTANCE} for n, d in OUTPUT_DATATYPE.items()],
    }


def index(use_case: str, versions: Sequence[str]) -> list[dict[str, str]]:
    """A use case's lines in the index of the repository."""
    if not versions:
        return [{"name": use_case, "version": "", "state": "UNAVAILABLE", "reason": "no version is live yet"}]
    return [{"name": use_case, "version": version, "state": READY, "reason": ""} for version in versions]


def _inputs(use_case: UseCase) -> dict[str, str]:
    return {**{field.name: DATATYPE[field.dtype] for field in use_case.request_fields}, AT: BYTES}


def _configured(datatype: str) -> str:
    return f"TYPE_{'STRING' if datatype == BYTES else datatype}"
