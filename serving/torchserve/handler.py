"""Runs inside TorchServe's worker: one read of the features, one call of the model, one record in the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.clock import SystemClock, to_us
from core.discovery import load_use_case
from core.errors import DependencyDown, DeploymentError, EvergreenError, RequestError, Unavailable
from core.logs import configure_logging, use_case_var
from core.prediction_ids import issue_ids
from core.settings import load_settings
from features.connection import REDIS_FAULTS, connect
from features.definitions import feature_set
from features.online.reader import Assembled, FeatureReader
from features.streams import Keys, encode_predictions
from serving.torchserve.packer import verify
from serving.torchserve.wire import Question, answer, find_fault, parse, require_fields

logger = logging.getLogger(__name__)
_REDIS_TIMEOUT_S = 2.0
_NO_SCORE = "model: no finite score"


class Handler:
    """Serves one version of one use case. TorchServe makes one per worker and finds it by being the only class here."""

    def initialize(self, context: Any) -> None:
        """Load the version that TorchServe unpacked.

        Raises:
            RuntimeError: if the version cannot be served; TorchServe reports it as a failed load.
        """
        configure_logging("WARNING")  # TorchServe writes a line per request at INFO
        logging.getLogger("ts.service").setLevel(logging.CRITICAL)  # and a traceback per refused one
        try:
            self._load(Path(context.system_properties["model_dir"]), str(context.manifest["model"]["modelVersion"]))
        except EvergreenError as error:
            raise RuntimeError(str(error)) from error

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of calls (one, as the host registers versions).

        Raises:
            PredictionException: 400 if a call is malformed, 503 if Redis is away, 500 if the model fails.
        """
        try:
            replies = [self._answer(row.get("body", row.get("data"))) for row in data]
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

    def _load(self, folder: Path, version: str) -> None:
        verify(folder)
        settings = load_settings()
        self._use_case = load_use_case(folder / "use_case.py").use_case
        use_case_var.set(self._use_case.name)
        columns = self._columns = feature_set(self._use_case).columns
        registered = tuple(json.loads((folder / "feature_spec.json").read_bytes())["columns"])
        if registered != columns:
            raise DeploymentError(
                f"{self._use_case.name} {version} was trained on {len(registered)} features {registered[:3]}…, "
                f"its use case declares {len(columns)}. Train it again."
            )
        self._version = version
        self._required = [field for field in self._use_case.request_fields if not field.nullable]
        self._session = _session(folder / "model.onnx")
        self._secret = settings.signing_secret()
        self._stream = Keys(settings.redis.namespace).predictions
        self._client = connect(
            settings,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._reader = FeatureReader(self._use_case, self._client, settings.redis.namespace, settings.stream.partitions)

    def _answer(self, body: object) -> bytes:
        question = parse(body, clock_us=to_us(SystemClock().now()))
        require_fields(self._required, question.instances)
        assembled = self._assemble(question)
        scores: npt.NDArray[np.float32] = self._session.run(["scores"], {"X": assembled.matrix})[0].reshape(-1)
        ids = question.prediction_ids
        if ids is None:
            ids = issue_ids(self._secret, self._use_case.name, question.now_us // 1000, len(question.instances))
        finite = np.isfinite(scores)
        for i in np.flatnonzero(~finite):
            assembled.degraded[i].append(_NO_SCORE)
        if question.log:
            self._record(question, assembled, scores, ids, np.flatnonzero(finite))
        return answer(scores=scores, ids=ids, degraded=assembled.degraded, version=self._version)

    def _assemble(self, question: Question) -> Assembled:
        try:
            return self._reader.assemble(question.instances, question.at_us)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            fault = find_fault(self._use_case.request_fields, question.instances)
            if fault is None:
                raise
            raise fault from error

    def _record(
        self,
        question: Question,
        assembled: Assembled,
        scores: npt.NDArray[np.float32],
        ids: Any,
        rows: npt.NDArray[np.intp],
    ) -> None:
        if not len(rows):
            return
        fields = encode_predictions(
            use_case=self._use_case.name,
            version=self._version,
            known=assembled.known[rows],
            known_views=assembled.known_views,
            now_us=question.now_us,
            ids=[ids[i] for i in rows],
            at_us=question.at_us[rows],
            degraded=[assembled.degraded[i] for i in rows],
            matrix=assembled.matrix[rows],
            scores=scores[rows],
            instances=[question.instances[i] for i in rows],
            columns=self._columns,
        )
        try:
            self._client.xadd(self._stream, fields)
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", f"the prediction could not be logged ({error})") from error


def _refusal(message: str, status: int) -> Exception:
    from ts.utils.util import PredictionException  # in the worker it is loaded already, elsewhere it is not needed

    error: Exception = PredictionException(message, status)
    return error


def _session(model: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    inputs, outputs = [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]
    if inputs != ["X"] or "scores" not in outputs:
        raise DeploymentError(
            f"{model.name} takes {inputs} and gives {outputs}; it must take X and give scores. Export it again."
        )
    return session
