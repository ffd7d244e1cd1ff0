"""The description by which MLflow recognises a version's folder as an ONNX model."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import yaml


def mlmodel_yaml(folder: Path, *, run_id: str, as_of: datetime) -> str:
    """The text of an ``MLmodel`` file: with it ``mlflow.onnx.load_model("models:/NAME@champion")`` works.

    Args:
        folder: a version's.
        run_id: the run it belongs to.
        as_of: event time of its training set.

    Source: https://mlflow.org/docs/latest/ml/model/#mlmodel-file-format
    """
    columns = len(json.loads((folder / "feature_spec.json").read_bytes())["columns"])
    described = {
        "artifact_path": "version",
        "run_id": run_id,
        "utc_time_created": f"{as_of:%Y-%m-%d %H:%M:%S.%f}",
        "mlflow_version": version("mlflow"),
        "model_size_bytes": (folder / "model.onnx").stat().st_size,
        "flavors": {
            "onnx": {
                "code": None,
                "data": "model.onnx",
                "onnx_session_options": None,
                "onnx_version": version("onnx"),
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": "model.onnx",
                "loader_module": "mlflow.onnx",
                "python_version": "3.11",
            },
        },
        "signature": {
            "inputs": _tensor("X", [-1, columns]),
            "outputs": _tensor("scores", [-1]),
            "params": None,
        },
    }
    return yaml.safe_dump(described, sort_keys=True)


def _tensor(name: str, shape: list[int]) -> str:
    return json.dumps([{"name": name, "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}])
