"""``POST /v1/webhooks/mlflow``: MLflow says that something moved. Proven by its signature, it wakes the deployer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from core.errors import RequestError
from features.streams import Keys
from serving.gateway.exchange import RawHeaders, header
from serving.gateway.json_body import ClientGone, read_body
from serving.gateway.problems import BadSignature
from serving.gateway.store import Store

logger = logging.getLogger(__name__)
PATH = "/v1/webhooks/mlflow"
_MOST_BODY_BYTES = 262_144
_LONGEST_ID = 128
_VERSION = b"v1"
_SAID_EVERY_S = 60.0


def verify(headers: RawHeaders, body: bytes, *, secret: str, now_s: float, tolerance_s: int) -> str:
    """Return the id of a delivery that MLflow signed just now.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, with MLflow's
    names of the headers: HMAC-SHA256 of id, time and body, joined by full stops.

    Args:
        headers: names in lower case.
        body: as it came.
        secret: what it must be signed with.
        now_s: seconds since 1970 UTC.
        tolerance_s: seconds its time may be off, either way.

    Raises:
        BadSignature: if it is not signed, signed otherwise, cut off, changed, or of another time.
    """
    delivery = header(headers, b"x-mlflow-delivery-id") or b""
    moment = header(headers, b"x-mlflow-timestamp") or b""
    given = header(headers, b"x-mlflow-signature") or b""
    if not (delivery and moment and given):
        raise BadSignature("The webhook is not signed: id, time or signature is missing.")
    if len(delivery) > _LONGEST_ID or not moment.isdigit() or len(moment) > 12:
        raise BadSignature("The webhook's id or time is malformed.")
    digest = hmac.new(secret.encode(), b".".join((delivery, moment, body)), hashlib.sha256).digest()
    expected = _VERSION + b"," + base64.b64encode(digest)
    matches = [hmac.compare_digest(each, expected) for each in given.split(b" ")[:8]]  # several while secrets change
    if not any(matches):
        raise BadSignature("The webhook's signature does not match its id, time and body.")
    if abs(now_s - int(moment)) > tolerance_s:
        raise BadSignature(f"The webhook is of another time: {int(now_s) - int(moment)} s ago.")
    return delivery.decode("latin-1")


class MlflowWebhook:
    """Receives webhooks. Whatever one says is not believed: it only lets the deployer look for itself.

    Args:
        store: remembers deliveries, and wakes the deployer.
        keys: names of both.
        secret: what webhooks are signed with.
        tolerance_s: seconds a webhook's time may be off.
        seconds: tells now, in seconds since 1970 UTC.
    """

    def __init__(
        self, store: Store, keys: Keys, *, secret: str, tolerance_s: int, seconds: Callable[[], float] = time.time
    ) -> None:
        self._store, self._keys = store, keys
        self._secret, self._tolerance_s = secret, tolerance_s
        self._seconds = seconds
        self._said_s = -float("inf")

    async def receive(self, headers: RawHeaders, body: bytes) -> None:
        """Wake the deployer.

        Raises:
            BadSignature: if it is not proven, or came before.
            DependencyDown: if Redis is away: without it a repetition would not be known.
        """
        try:
            delivery = verify(headers, body, secret=self._secret, now_s=self._seconds(), tolerance_s=self._tolerance_s)
            key = self._keys.delivery(hashlib.sha256(delivery.encode()).hexdigest()[:32])
            kept_s = 2 * self._tolerance_s + 1
            (times,) = await self._store.add_counts([(key, 0, kept_s)])
            if times > 0:
                raise BadSignature("The webhook came before.")
        except BadSignature as refusal:
            self._say(refusal)
            raise
        # The deployer is woken before that is remembered: MLflow sends what was not answered once more, and that must
        # not be taken for a repetition when the first one came to nothing.
        await self._store.append([(self._keys.wakes, {"why": "webhook"})])
        await self._store.add_counts([(key, 1, kept_s)])

    def routes(self) -> APIRouter:
        """For the pages."""
        router = APIRouter(tags=["operation"])

        @router.post(PATH, status_code=204, include_in_schema=False)  # for MLflow, not for clients
        async def receive(request: Request) -> Response:
            raw: RawHeaders = request.scope["headers"]
            try:
                body = await read_body(raw, request.receive, _MOST_BODY_BYTES)
            except ClientGone:
                return Response(status_code=204)  # nobody is there to read it
            await self.receive(raw, body)
            return Response(status_code=204)

        return router

    def _say(self, refusal: RequestError) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= _SAID_EVERY_S:
            self._said_s = now_s
            logger.warning("A webhook is refused: %s", refusal)
