"""Clients that ask all the time while something is done to the stack."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from core.errors import StackError
from core.settings import Settings
from stack.drill.answers import Answer

_CLIENTS = 2
_ROOM_S = 1.0  # a call that takes that much longer than the gateway allows itself has hung


class Trickle:
    """Threads that send recorded requests to the gateway, one instance at a time, and keep every answer.

    Args:
        settings: where the gateway is, and the key it wants.
        use_case: whom to ask.
        instances: the recorded requests.
        per_s: calls per second, of all threads together.
        now: the moment of the calls, where the stack's clock is of events; else unused.
    """

    def __init__(
        self,
        settings: Settings,
        use_case: str,
        instances: Sequence[dict[str, Any]],
        *,
        per_s: float,
        now: datetime,
    ) -> None:
        self._url = f"{settings.gateway_url}/v1/models/{use_case}/predict"
        self._settings = settings
        self._headers = _headers(settings, now)
        self._pause_s = _CLIENTS / per_s
        self._instances = list(instances)
        self._answers: list[Answer] = []
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(_CLIENTS)]

    def require_answers(self) -> None:
        """Ask every recorded request once, and keep to those that are answered.

        Raises:
            StackError: with the gateway's words, if none is.
        """
        with self._client() as client:
            replies = [(instance, self._ask(client, instance)) for instance in self._instances]
        self._instances = [instance for instance, answer in replies if not answer.problem]
        if self._instances:
            return
        answer = replies[0][1]
        remedy = (
            "Give a key with the scope predict as EVERGREEN_GATEWAY__API_KEY."
            if answer.status in (401, 403)
            else "See: evergreen status"
        )
        raise StackError(f"The gateway answers none of the recorded requests ({answer.problem}). {remedy}")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def answers(self) -> list[Answer]:
        """All that came back since they were last taken."""
        with self._lock:
            return list(self._answers)

    def take(self) -> list[Answer]:
        """The same, and begin anew."""
        with self._lock:
            found, self._answers = self._answers, []
        return found

    def _run(self, first: int) -> None:
        with self._client() as client:
            for instance in itertools.cycle(self._instances[first:] + self._instances[:first]):
                if self._enough.wait(self._pause_s):
                    return
                answer = self._ask(client, instance)
                with self._lock:
                    self._answers.append(answer)

    def _ask(self, client: httpx.Client, instance: dict[str, Any]) -> Answer:
        asked_s, status = time.monotonic(), 0
        try:
            reply = client.post(self._url, json={"instances": [instance]}, headers=self._headers)
            status, body = reply.status_code, reply.json()
            if status == 200:
                return Answer(asked_s, time.monotonic(), status, str(body["model_version"]))
            problem = f"{status} {body.get('detail') or body.get('title')}"
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__} {error}".strip()
        except (ValueError, KeyError, AttributeError) as error:
            problem = f"{status} and an answer that cannot be read ({error})"
        return Answer(asked_s, time.monotonic(), status, problem=problem)

    def _client(self) -> httpx.Client:
        timeout_s = self._settings.gateway.timeout_s + _ROOM_S
        return httpx.Client(timeout=timeout_s, trust_env=False, verify=_trusted(self._settings))


def _headers(settings: Settings, now: datetime) -> dict[str, str]:
    headers = {"X-Evergreen-Now": now.isoformat()} if settings.clock == "event" else {}
    key = settings.gateway.api_key.get_secret_value()
    return headers | ({"X-API-Key": key} if key else {})


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    """The gateway's own certificate and no other, whatever name it is for: the key goes to nobody else."""
    if not settings.gateway.tls_cert:
        return True
    context = ssl.create_default_context(cafile=settings.gateway.tls_cert)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
