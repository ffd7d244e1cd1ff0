"""Scoring rows with an ONNX graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class OnnxScorer:
    """Runs the graph of a version on one thread, so that scores do not depend on the machine's cores.

    Args:
        onnx_bytes: a graph with the input ``X``, float32 (n, d), and the output ``scores``, float32 (n,).
    """

    def __init__(self, onnx_bytes: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])

    @property
    def columns(self) -> int:
        """How many columns a row has."""
        return int(self._session.get_inputs()[0].shape[1])

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities float32 (n,) in [0, 1] for float32 (n, d); n may be 0."""
        if len(matrix) == 0:
            return np.empty(0, dtype=np.float32)
        rows = np.ascontiguousarray(matrix, dtype=np.float32)
        scores: npt.NDArray[np.float32] = self._session.run(["scores"], {"X": rows})[0]
        return scores
