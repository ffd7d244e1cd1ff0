"""The call that carries traffic: tensors in, scores out."""

from __future__ import annotations

from typing import Final

from core.use_case import UseCase
from serving.gateway.endpoints import timeout_of
from serving.gateway.exchange import Call, RawHeaders, Respond, header
from serving.gateway.open_inference.columns import Columns
from serving.gateway.open_inference.reply import inferred
from serving.gateway.open_inference.request import inflate, read_request
from serving.gateway.open_inference.scorer import Asked, Scored, Scorer
from serving.keys.key import Scope
from serving.open_inference.tensors import HEADER_LENGTH

_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()


class Infer:
    """Scores instances of one use case that come as tensors.

    Args:
        use_case: its declaration.
        scorer: gives the scores.
        most: most instances per call.
        max_body_bytes: largest body once inflated.
    """

    route = "/v2/models/{use_case}/infer"
    scope: Scope = "predict"

    def __init__(self, use_case: UseCase, scorer: Scorer, *, most: int, max_body_bytes: int) -> None:
        self.use_case = use_case.name
        self._name = use_case.name
        self._columns = Columns(use_case, most)
        self._scorer = scorer
        self._max_body_bytes = max_body_bytes

    def require_room(self) -> None:
        """Refuse a call before it is even read, if it would wait too long."""
        self._scorer.require_room(self._name)

    def begin(self, call: Call, respond: Respond, version: str | None = None) -> None:
        """Answer with the outputs that the request names; `version` is the one that must, None whichever does.

        Raises:
            EvergreenError: if it cannot be answered.
        """
        timeout_s = timeout_of(call.headers)
        body = inflate(call.body, _text(call.headers, b"content-encoding") or "", self._max_body_bytes)
        request = read_request(body, _text(call.headers, _HEADER_LENGTH))
        instances, at_us = self._columns.instances(request.inputs, call.now_us)

        def done(result: Scored | BaseException) -> None:
            respond(inferred(self._name, request, result) if isinstance(result, Scored) else result)

        self._scorer.ask(Asked(self._name, instances, at_us, call.now_us, version, timeout_s), done)


def _text(headers: RawHeaders, name: bytes) -> str | None:
    value = header(headers, name)
    return None if value is None else value.decode("latin-1")
