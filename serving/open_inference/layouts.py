"""What Triton and MLServer want to find in a model repository besides the models themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODEL: Final = "model.onnx"
LARGEST_BATCH: Final = 4096  # instances in one call; many times what the gateway puts into one
_RUNTIME: Final = "mlserver_runtime"  # the module beside this one that MLServer runs models with


@dataclass(frozen=True)
class Layout:
    """How one kind of server wants its repository.

    Args:
        model_files: the files of a model's folder, by name, given the model's name and the number of features of
            each of its versions.
        version_files: likewise of a version's folder, given the names of the model and the version.
    """

    model_files: Callable[[str, Mapping[str, int]], Mapping[str, bytes]]
    version_files: Callable[[str, str], Mapping[str, bytes]]


def triton_config(model: str, features: Mapping[str, int]) -> str:
    """A ``config.pbtxt``: batches are formed while the model is busy, and only these versions are served.

    Args:
        model: its name.
        features: version -> number of features. Where versions differ in it, Triton checks it call by call.

    Source: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
    """
    widths: Sequence[int] = sorted(set(features.values()))
    width = widths[0] if len(widths) == 1 else -1
    versions = ", ".join(sorted(features, key=int))
    return f"""name: "{model}"
platform: "onnxruntime_onnx"
max_batch_size: {LARGEST_BATCH}
input [ {{ name: "X" data_type: TYPE_FP32 dims: [ {width} ] }} ]
# the graph gives one number per row; a row of an output has at least one dimension
output [ {{ name: "scores" data_type: TYPE_FP32 dims: [ 1 ] reshape: {{ shape: [ ] }} }} ]
version_policy: {{ specific: {{ versions: [ {versions} ] }} }}
dynamic_batching {{ }}
"""


def _mlserver_settings(model: str, version: str) -> Mapping[str, bytes]:
    settings = {
        "name": model,
        "implementation": f"{_RUNTIME}.OnnxModel",
        "parameters": {"uri": f"./{MODEL}", "version": version},
    }
    runtime = Path(__file__).with_name(f"{_RUNTIME}.py").read_bytes()
    return {"model-settings.json": json.dumps(settings, indent=2).encode(), f"{_RUNTIME}.py": runtime}


TRITON: Final = Layout(
    model_files=lambda model, features: {"config.pbtxt": triton_config(model, features).encode()},
    version_files=lambda model, version: {},
)
MLSERVER: Final = Layout(model_files=lambda model, features: {}, version_files=_mlserver_settings)
LAYOUTS: Final[Mapping[str, Layout]] = {"triton": TRITON, "mlserver": MLSERVER}
