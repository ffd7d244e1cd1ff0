"""The Open Inference Protocol v2, as Triton's, KServe's and MLServer's clients speak it.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from core.errors import RequestError, UnknownUseCase
from core.use_case import UseCase
from serving.gateway.exchange import Call, RawHeaders, Reply
from serving.gateway.json_body import parse_object
from serving.gateway.open_inference import described
from serving.gateway.open_inference.infer import Infer
from serving.gateway.open_inference.reply import page
from serving.gateway.open_inference.scorer import Asked, Scored, Scorer
from serving.gateway.openapi import example_of
from serving.gateway.problems import UnknownPath, UnknownVersion, WrongMethod, shown

_ROUTES: Final = {"": "GET", "ready": "GET", "config": "GET", "infer": "POST"}  # below a model or a version of it


@dataclass(frozen=True, slots=True)
class Request:
    """A request below ``/v2``.

    Args:
        method: upper case; HEAD counts as GET.
        path: unquoted.
        headers: lower-case names.
        body: as received, within the limit.
        now_us: tells the moment that counts as now, microseconds since 1970 UTC; may raise BadHeader.
    """

    method: str
    path: str
    headers: RawHeaders
    body: bytes
    now_us: Callable[[], int]


class OpenInference:
    """Answers the protocol's calls for all use cases.

    Args:
        use_cases: by name.
        scorer: gives the scores.
        most: most instances per call.
        max_body_bytes: largest body once inflated.
    """

    def __init__(self, use_cases: Mapping[str, UseCase], scorer: Scorer, *, most: int, max_body_bytes: int) -> None:
        self._use_cases = use_cases
        self._scorer = scorer
        self.infer = {
            name: Infer(use_case, scorer, most=most, max_body_bytes=max_body_bytes)
            for name, use_case in use_cases.items()
        }

    async def __call__(self, call: Request) -> Reply:
        """Answer one call.

        Raises:
            EvergreenError: to be answered with `refused`.
        """
        match call.path.rstrip("/").split("/")[2:]:
            case []:
                _allow(call, "GET")
                return page(described.server())
            case ["health", "live"]:
                _allow(call, "GET")
                return page({"live": True})
            case ["health", "ready"]:
                _allow(call, "GET")
                await self._scorer.check()
                return page({"ready": True})
            case ["repository", "index"]:
                _allow(call, "POST")
                return self._index(call.body)
            case ["repository", "models", _, "load" | "unload"]:
                _allow(call, "POST")
                raise _not_here("Clients neither load nor unload models here.", "Use: evergreen promote USE_CASE.")
            case ["models", name, "versions", version, *rest] if len(rest) < 2:
                return await self._model(call, name, version, "".join(rest))
            case ["models", name, *rest] if len(rest) < 2:
                return await self._model(call, name, None, "".join(rest))
        raise _not_here(f"Nothing is served at {shown(call.path)}.", "See /docs for what is.")

    async def _model(self, call: Request, name: str, version: str | None, verb: str) -> Reply:
        if verb not in _ROUTES:
            raise _not_here(
                f"Nothing is served at {shown(call.path)}.", f"Use one of: {', '.join(filter(None, _ROUTES))}."
            )
        use_case = self._use_cases.get(name)
        if use_case is None:
            raise UnknownUseCase(name[:60], list(self._use_cases))
        _allow(call, _ROUTES[verb])
        served = self._scorer.versions(name)
        if version is not None and version not in served:
            raise UnknownVersion(name, version[:60], served)
        if verb == "infer":
            return await self._infer(call, name, version)
        if verb == "ready":
            return await self._ready(call, use_case, version)
        document = described.config(use_case, served) if verb else described.model(use_case, served)
        return page(document)

    async def _infer(self, call: Request, name: str, version: str | None) -> Reply:
        replies: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        inner = Call(call.body, call.headers, call.now_us())
        self.infer[name].begin(inner, partial(_settle, replies), version)
        return await replies

    async def _ready(self, call: Request, use_case: UseCase, version: str | None) -> Reply:
        """Whether the model scores its example, which says more than that there is a route to it."""
        now_us = call.now_us()
        example = {field.name: example_of(field) for field in use_case.request_fields}
        scored: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        asked = Asked(use_case.name, [example], [now_us], now_us, version, log=False)
        self._scorer.ask(asked, partial(_settle, scored))
        await scored
        return page({"name": use_case.name, "ready": True})

    def _index(self, body: bytes) -> Reply:
        only_ready = bool(body.strip()) and parse_object(body).get("ready") is True
        rows = [row for name in self._use_cases for row in described.index(name, self._scorer.versions(name))]
        return page([row for row in rows if row["state"] == described.READY or not only_ready])


def route_of(path: str) -> str:
    """The path with names and versions left open, under which calls are counted: one of a few.

    Example:
        >>> route_of("/v2/models/taxi_tip/versions/7/infer")
        '/v2/models/{use_case}/infer'
        >>> route_of("/v2/no/such/path")
        '/v2'
    """
    parts = path.rstrip("/").split("/")[2:]
    if parts[:1] == ["models"] and parts[-1] in ("infer", "ready", "config"):
        return f"/v2/models/{{use_case}}/{parts[-1]}"
    return "/v2"


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _allow(call: Request, method: str) -> None:
    if call.method != method and not (method == "GET" and call.method == "HEAD"):
        raise WrongMethod(call.method, (method,) if method == "POST" else (method, "HEAD"))


def _not_here(detail: str, remedy: str) -> RequestError:
    return UnknownPath(detail, remedy=remedy)
