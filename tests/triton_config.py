"""Triton's model configuration as Triton itself reads it: the schema that comes with its client."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import tritonclient
from google.protobuf import text_format


def parse_config(text: str) -> Any:
    """A ``config.pbtxt`` as a ModelConfig message; raises ParseError for what Triton would refuse to parse."""
    path = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"  # the package around it needs gRPC
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return text_format.Parse(text, module.ModelConfig())
