"""Lets TorchServe's workers start without torch, which they would import for one ``isinstance`` alone.

Its protocol module asks whether an answer is a ``torch.Tensor``; ours are bytes, and models run in ONNX Runtime. To
import torch takes a worker 1.4 of its 2.0 s of computing until it is ready, and 180 of its 260 MB. Here the module
gets a stand-in to ask, and nobody else does: whoever imports torch later, such as a use case's own code, gets the real
one.
"""

import sys
from types import ModuleType


def bind_protocol_without_torch() -> None:
    """Import TorchServe's protocol module while a stand-in is in torch's place."""
    stand_in = ModuleType("torch")
    stand_in.Tensor = type("Tensor", (), {})  # type: ignore[attr-defined]
    sys.modules["torch"] = stand_in
    try:
        import ts.protocol.otf_message_handler  # noqa: F401
    finally:
        del sys.modules["torch"]


if "torch" not in sys.modules and any(argument.endswith("model_service_worker.py") for argument in sys.orig_argv):
    bind_protocol_without_torch()
