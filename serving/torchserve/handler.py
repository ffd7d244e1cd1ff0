"""Runs inside TorchServe's worker: the scoring of one version, with its model in this process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from core.errors import DeploymentError, EvergreenError, RequestError, Unavailable
from core.logs import configure_logging, use_case_var
from core.settings import load_settings
from serving.scoring import Run, Scoring
from serving.torchserve.packer import verify

logger = logging.getLogger(__name__)


class Handler:
    """Serves one version of one use case. TorchServe makes one per worker and finds it by being the only class here."""

    def initialize(self, context: Any) -> None:
        """Load the version that TorchServe unpacked.

        Raises:
            RuntimeError: if the version cannot be served; TorchServe reports it as a failed load.
        """
        configure_logging("WARNING")  # TorchServe writes a line per request at INFO
        logging.getLogger("ts.service").setLevel(logging.CRITICAL)  # and a traceback per refused one
        folder = Path(context.system_properties["model_dir"])
        self._version = str(context.manifest["model"]["modelVersion"])
        try:
            verify(folder)
            self._scoring = Scoring(folder, self._version, _model(folder / "model.onnx"), load_settings())
        except EvergreenError as error:
            raise RuntimeError(str(error)) from error
        use_case_var.set(self._scoring.use_case.name)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of calls (one, as the host registers versions).

        Raises:
            PredictionException: 400 if a call is malformed, 503 if Redis is away, 500 if the model fails.
        """
        try:
            replies = [self._scoring.answer(row.get("body", row.get("data"))) for row in data]
        except RequestError as error:
            raise _refusal(str(error), 400) from error
        except Unavailable as error:
            logger.warning("Not answered: %s", error)
            raise _refusal(str(error), 503) from error
        except Exception as error:  # an entry point: the worker outlives whatever a use case's code raises
            logger.exception("Version %s failed", self._version)
            raise _refusal(f"The model fails ({type(error).__name__}: {error}).", 500) from error
        for i in range(len(data)):
            context.set_response_content_type(i, "application/json")
        return replies


def _refusal(message: str, status: int) -> Exception:
    from ts.utils.util import PredictionException  # in the worker it is loaded already, elsewhere it is not needed

    error: Exception = PredictionException(message, status)
    return error


def _model(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if inputs != ["X"] or "scores" not in outputs:
        raise DeploymentError(
            f"{path.name} takes {inputs} and gives {outputs}; it must take X and give scores. Export it again."
        )

    def run(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = session.run(["scores"], {"X": matrix})[0].reshape(-1)
        return scores

    return run
