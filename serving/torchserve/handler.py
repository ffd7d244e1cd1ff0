"""Runs inside TorchServe's worker: the scoring of one version, with its model in this process."""

from __future__ import annotations

import gc
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from core.errors import DeadlineMissed, DeploymentError, EvergreenError, RequestError, Unavailable
from core.logs import configure_logging, use_case_var, version_var
from core.settings import load_settings
from serving.scoring import Run, Scoring
from serving.torchserve.configuration import seals
from serving.torchserve.packer import verify
from serving.torchserve.seals import ArchiveSeals

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
        version_var.set(self._version)
        sys.dont_write_bytecode = True  # so that nothing may be in the version's folder but what was packed
        try:
            settings = load_settings()
            ArchiveSeals(seals(settings)).check_unpacked(folder)
            verify(folder)
            self._scoring = Scoring(folder, self._version, _model(folder / "model.onnx"), settings)
        except EvergreenError as error:
            raise RuntimeError(str(error)) from error
        use_case_var.set(self._scoring.use_case.name)
        gc.collect()
        gc.freeze()  # what is here by now stays: full collections need not look at it while answers wait

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of calls: one, as the host registers versions; more share a read and a run.

        Raises:
            PredictionException: if the only call is malformed (400), came too late (504), something needed is away
                (503), or the model fails (500). Of several calls, each gets its own status.
        """
        bodies = [row.get("body", row.get("data")) for row in data]
        try:
            replies = self._scoring.answer_together(bodies)
        except Exception as error:  # an entry point: the worker outlives whatever a use case's code raises
            if len(bodies) == 1:
                raise _refusal(self._message(error), _status(error)) from error
            replies = [self._alone(i, body, context) for i, body in enumerate(bodies)]
        for i in range(len(data)):
            context.set_response_content_type(i, "application/json")
        return replies

    def _alone(self, i: int, body: object, context: Any) -> bytes:
        try:
            return self._scoring.answer(body)
        except Exception as error:  # likewise
            context.set_response_status(code=_status(error), idx=i)
            return json.dumps({"code": _status(error), "message": self._message(error)}).encode()

    def _message(self, error: Exception) -> str:
        if isinstance(error, RequestError):
            return str(error)
        if isinstance(error, Unavailable):
            logger.warning("Not answered: %s", error)
            return str(error)
        logger.error("Version %s failed", self._version, exc_info=error)
        return f"The model fails ({type(error).__name__}: {error})."


def _status(error: Exception) -> int:
    if isinstance(error, RequestError):
        return 400
    if isinstance(error, DeadlineMissed):
        return 504
    return 503 if isinstance(error, Unavailable) else 500


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
