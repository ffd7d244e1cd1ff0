"""Answering a call for one version: one read of the features, one run of the model, one record in the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.clock import SystemClock, to_us
from core.discovery import load_use_case
from core.errors import DependencyDown, DeploymentError
from core.prediction_ids import issue_ids
from core.settings import Settings
from core.use_case import UseCase
from features.connection import REDIS_FAULTS, connect
from features.definitions import feature_set
from features.online.reader import Assembled, FeatureReader
from features.streams import Keys, encode_predictions
from serving.torchserve.wire import Question, answer, find_fault, parse, require_fields

_REDIS_TIMEOUT_S = 2.0
_NO_SCORE = "model: no finite score"

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


class Scoring:
    """Answers calls with one version of a use case, wherever its model runs.

    The features are read here, with the use case as it was when the version was trained.

    Args:
        folder: the version's ``use_case.py`` and ``feature_spec.json``, their digests verified already.
        version: what to call it.
        run: the model: from a matrix float32 (n, features) to n scores; may raise Unavailable.
        settings: where Redis is, and what signs prediction ids.

    Raises:
        EvergreenError: if the use case cannot be loaded, or does not declare what the version was trained on.
    """

    def __init__(self, folder: Path, version: str, run: Run, settings: Settings) -> None:
        self._use_case = load_use_case(folder / "use_case.py").use_case
        self._columns = _columns(folder, self._use_case, version)
        self._version = version
        self._run = run
        self._required = [field for field in self._use_case.request_fields if not field.nullable]
        self._secret = settings.signing_secret()
        self._stream = Keys(settings.redis.namespace).predictions
        self._client = connect(
            settings,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._reader = FeatureReader(self._use_case, self._client, settings.redis.namespace, settings.stream.partitions)

    @property
    def use_case(self) -> UseCase:
        """The use case as the version declares it."""
        return self._use_case

    def answer(self, body: object) -> bytes:
        """Answer one call, in the format of ``serving.torchserve.wire``.

        Args:
            body: the call as bytes or text of JSON, or as an object.

        Raises:
            RequestError: if it is malformed, naming the field.
            Unavailable: if Redis or the model is away; nothing is answered that could not be logged.
        """
        question = parse(body, clock_us=to_us(SystemClock().now()))
        require_fields(self._required, question.instances)
        assembled = self._assemble(question)
        scores = self._run(assembled.matrix)
        ids = question.prediction_ids
        if ids is None:
            ids = issue_ids(self._secret, self._use_case.name, question.now_us // 1000, len(question.instances))
        finite = np.isfinite(scores)
        for i in np.flatnonzero(~finite):
            assembled.degraded[i].append(_NO_SCORE)
        if question.log:
            self._record(question, assembled, scores, ids, np.flatnonzero(finite))
        return answer(scores=scores, ids=ids, degraded=assembled.degraded, version=self._version)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._client.close()

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


def _columns(folder: Path, use_case: UseCase, version: str) -> tuple[str, ...]:
    columns = feature_set(use_case).columns
    registered = tuple(json.loads((folder / "feature_spec.json").read_bytes())["columns"])
    if registered != columns:
        raise DeploymentError(
            f"{use_case.name} {version} was trained on {len(registered)} features {registered[:3]}…, "
            f"its use case declares {len(columns)}. Train it again."
        )
    return columns
