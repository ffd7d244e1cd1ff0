"""Runs an ONNX graph inside MLServer, which has no runtime of its own for it: copied beside each model it loads."""

from __future__ import annotations

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):  # type: ignore[misc]  # MLServer lives in an environment of its own
    """One version: from ``X``, float32 (n, features), to ``scores``, float32 (n,)."""

    async def load(self) -> bool:
        """Open the graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        path = await get_model_uri(self._settings)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the rows of the first input."""
        matrix = NumpyCodec.decode_input(payload.inputs[0]).astype("float32", copy=False)
        scores = self._session.run(["scores"], {"X": matrix})[0].reshape(-1)
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("scores", scores)],
        )
