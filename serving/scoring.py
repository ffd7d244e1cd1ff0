"""Answering a call for one version: one read of the features, one run of the model, one record in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.clock import SystemClock, to_us
from core.discovery import load_use_case
from core.errors import DeadlineMissed, DependencyDown, DeploymentError
from core.prediction_ids import issue_base
from core.settings import Settings
from core.use_case import UseCase
from features.connection import connect
from features.definitions import feature_set
from features.online.reader import Assembled, FeatureReader
from features.streams import Keys, encode_predictions
from serving.prediction_log import PredictionLog
from serving.torchserve.wire import Question, answer, find_fault, parse, require_fields, together

_REDIS_TIMEOUT_S = 0.5
_TRY_AGAIN_S = 0.5
_UNREAD = "features: the online store does not answer"
_NO_SCORE = "model: no finite score"


@dataclass(frozen=True, slots=True)
class _Scored:
    scores: npt.NDArray[np.float32]
    degraded: Sequence[Sequence[str]]
    timing: tuple[float, float, float]
    logged: str


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
        self._refuses_without_features = self._use_case.serving.without_features == "refuse"
        self._unread_until_s = 0.0
        self._client = connect(
            settings,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._reader = FeatureReader(self._use_case, self._client, settings.redis.namespace, settings.stream.partitions)
        self._log = PredictionLog(
            self._client,
            Keys(settings.redis.namespace).predictions,
            settings.home / "spool",
            settings.stream.max_entries,
        )
        self._log.start()

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
            DeadlineMissed: if nobody waits for the answer any more.
            Unavailable: if the model is away, or Redis and the use case does without neither features nor log.
        """
        question = self._parse(body)
        return self._reply(question, self._score(question))

    def answer_together(self, bodies: Sequence[object]) -> list[bytes]:
        """Answer several calls of clients of the host with one read of the features and one run of the model.

        Raises what `answer` raises, for all of them if it is for one.
        """
        questions = [self._parse(body) for body in bodies]
        if len({question.role for question in questions}) > 1:
            return [self._reply(question, self._score(question)) for question in questions]
        scored = self._score(together(questions))
        replies, start = [], 0
        for question in questions:
            stop = start + len(question.instances)
            part = replace(scored, scores=scored.scores[start:stop], degraded=scored.degraded[start:stop])
            replies.append(self._reply(question, part))
            start = stop
        return replies

    def _parse(self, body: object) -> Question:
        """The call, with prediction ids."""
        question = parse(body, clock_us=to_us(SystemClock().now()))
        if question.until_us is not None and time.time_ns() // 1000 > question.until_us:
            raise DeadlineMissed(0.0)
        require_fields(self._required, question.instances)
        if not question.ids:
            n = len(question.instances)
            base = issue_base(self._secret, self._use_case.name, question.now_us // 1000, n)
            question = replace(question, ids=[(n, base)], brings_ids=False)
        return question

    def _score(self, question: Question) -> _Scored:
        began_s = perf_counter()
        assembled = self._assemble(question)
        read_s = perf_counter()
        scores = self._run(assembled.matrix)
        scored_s = perf_counter()
        finite = np.isfinite(scores)
        if not finite.all():
            for i in np.flatnonzero(~finite):
                assembled.degraded[i].append(_NO_SCORE)
        wanted = finite if question.logged is None else finite & question.logged
        logged = self._log.append(self._record(question, assembled, scores, wanted)) if wanted.any() else ""
        timing = read_s - began_s, scored_s - read_s, perf_counter() - scored_s
        return _Scored(scores, assembled.degraded, timing, logged)

    def _reply(self, question: Question, scored: _Scored) -> bytes:
        return answer(
            scores=scored.scores,
            degraded=scored.degraded,
            version=self._version,
            ids=None if question.brings_ids else question.prediction_ids(),
            timing=scored.timing,
            logged=scored.logged,
        )

    def close(self) -> None:
        """Close the connections to Redis."""
        self._log.close()
        self._client.close()

    def _assemble(self, question: Question) -> Assembled:
        try:
            if time.monotonic() >= self._unread_until_s:
                try:
                    return self._reader.assemble(question.instances, question.at_us)
                except DependencyDown:
                    if self._refuses_without_features:
                        raise
                    self._unread_until_s = time.monotonic() + _TRY_AGAIN_S
            elif self._refuses_without_features:
                raise DependencyDown("Redis", "it did not a moment ago")
            return self._reader.assemble_unread(question.instances, question.at_us, _UNREAD)
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
        wanted: npt.NDArray[np.bool_],
    ) -> dict[Any, Any]:
        """The log's record of the wanted rows."""
        common: dict[str, Any] = {
            "use_case": self._use_case.name,
            "version": self._version,
            "role": question.role,
            "known_views": assembled.known_views,
            "now_us": question.now_us,
            "columns": self._columns,
        }
        if wanted.all():
            return encode_predictions(
                **common,
                known=assembled.known,
                ids=question.ids,
                at_us=question.at_us,
                degraded=assembled.degraded,
                matrix=assembled.matrix,
                scores=scores,
                instances=question.instances.rows,
                runs=question.instances.runs,
            )
        picked = np.flatnonzero(wanted).tolist()
        ids = question.prediction_ids()
        return encode_predictions(
            **common,
            known=assembled.known[picked],
            ids=[ids[i] for i in picked],
            at_us=question.at_us[picked],
            degraded=[assembled.degraded[i] for i in picked],
            matrix=assembled.matrix[picked],
            scores=scores[picked],
            instances=question.instances.plain(picked),
        )


def _columns(folder: Path, use_case: UseCase, version: str) -> tuple[str, ...]:
    columns = feature_set(use_case).columns
    registered = tuple(json.loads((folder / "feature_spec.json").read_bytes())["columns"])
    if registered != columns:
        raise DeploymentError(
            f"{use_case.name} {version} was trained on {len(registered)} features {registered[:3]}…, "
            f"its use case declares {len(columns)}. Train it again."
        )
    return columns
