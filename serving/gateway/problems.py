"""RFC 9457 problem documents, and the one map from error classes to HTTP statuses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from core import errors

PROBLEM_TYPE = b"application/problem+json"
MOST_FAULTS = 10
_LONGEST_SHOWN = 60
_RETRY_AFTER_S = 1
_CHALLENGE = b'ApiKey realm="evergreen", header="X-API-Key"'  # RFC 9110, section 11.6.1: a 401 carries one


class MalformedBody(errors.RequestError):
    """The body is not one JSON object, or names a key twice."""


class BadHeader(errors.RequestError):
    """A header that is needed is missing or cannot be read."""


class UnknownPath(errors.RequestError):
    """Nothing is served at that path."""


class WrongMethod(errors.RequestError):
    """The path is served, but not with that method.

    Args:
        method: the method that was used.
        allowed: those that may be used.
    """

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(f"The method {shown(method)} is not allowed here.", remedy=f"Use {' or '.join(allowed)}.")
        self.allowed = tuple(allowed)


class TooSlow(errors.RequestError):
    """The body did not arrive in time."""


class DeadlineTooShort(errors.RequestError):
    """The answer was not there by the deadline that the request itself had set."""


class UnknownVersion(errors.RequestError):
    """A version is named that answers nobody.

    Args:
        use_case: of which use case.
        version: the version that was named.
        served: those that answer.
    """

    def __init__(self, use_case: str, version: str, served: Sequence[str]) -> None:
        names = ", ".join(served) or "none is live yet"
        super().__init__(
            f"Version {shown(version)} of {use_case} does not answer.",
            field="version",
            remedy=f"Leave it out, or use one of: {names}.",
        )


class UnsupportedEncoding(errors.RequestError):
    """The body is compressed in a way that is not understood.

    Args:
        encoding: how.
        supported: those that are understood.
    """

    def __init__(self, encoding: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"The encoding {shown(encoding)} is not supported.",
            field="Content-Encoding",
            remedy=f"Send the body as it is, or as {' or '.join(supported)}.",
        )


class LogInFirst(errors.Unauthorized):
    """A page needs somebody who is logged in."""


class StaleForm(errors.RequestError):
    """A form does not belong to the session, or the session is over."""

    def __init__(self) -> None:
        super().__init__("The form was not sent from a page of your session.", remedy="Go back, reload, and try again.")


class TooManyLogIns(errors.RequestError):
    """Too many log-ins failed within the last minute.

    Args:
        retry_after_s: when another one is looked at, in seconds from now.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "Too many log-ins have failed within a minute.", remedy=f"Try again in {math.ceil(retry_after_s)} s."
        )
        self.retry_after_s = retry_after_s


class BadSignature(errors.RequestError):
    """A webhook is not proven to come from who it says, or came before."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail,
            field="X-MLflow-Signature",
            remedy="Sign it with EVERGREEN_WEBHOOK__SECRET, anew each time, and check the clocks of both machines.",
        )


class StreamFull(errors.Overloaded):
    """What a client sends comes faster than it is read: it is for the client to slow down."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request: `field` is a path such as ``instances[3].fare_amount``."""

    field: str
    detail: str
    remedy: str


class InvalidFields(errors.InvalidField):
    """One or more fields are wrong.

    Args:
        faults: at least one; the first stands for all in the summary.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        super().__init__(first.detail, field=first.field, remedy=first.remedy)
        self.faults = tuple(faults[:MOST_FAULTS])


STATUS: Mapping[type[errors.EvergreenError], int] = {
    errors.EvergreenError: 500,
    errors.SettingsError: 500,
    errors.UseCaseError: 500,
    errors.DuplicateUseCase: 500,
    errors.LeakageError: 500,
    errors.RequestError: 400,
    errors.InvalidField: 422,
    errors.UnknownUseCase: 404,
    errors.UnknownPrediction: 404,
    errors.UnknownSource: 404,
    errors.TooLarge: 413,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.LimitReached: 429,
    errors.RateLimited: 429,
    errors.QuotaExceeded: 429,
    errors.UnknownKey: 404,
    errors.KeyEnded: 409,
    errors.Unavailable: 503,
    errors.NoLiveVersion: 503,
    errors.Overloaded: 503,
    errors.DeadlineMissed: 503,
    errors.DependencyDown: 503,
    errors.DataError: 500,
    errors.TrainingError: 500,
    errors.NotEnoughData: 500,
    errors.ConversionError: 500,
    errors.ParityError: 500,
    errors.DeploymentError: 500,
    errors.DigestMismatch: 500,
    errors.UnsafeArtifact: 500,
    errors.NotPermitted: 409,
    errors.LedgerError: 500,
    errors.StaleGeneration: 500,
    errors.StackError: 500,
    MalformedBody: 400,
    BadHeader: 400,
    UnknownPath: 404,
    WrongMethod: 405,
    TooSlow: 408,
    DeadlineTooShort: 408,
    LogInFirst: 401,
    StaleForm: 403,
    TooManyLogIns: 429,
    BadSignature: 401,
    UnknownVersion: 404,
    UnsupportedEncoding: 415,
    InvalidFields: 422,
    StreamFull: 429,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document, ready to be sent.

    Args:
        status: HTTP status.
        body: the document, JSON.
        headers: further response headers, lower-case names.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem_for(error: errors.EvergreenError) -> Problem:
    """The document that tells a client about `error`; a class the map lacks counts as its nearest base."""
    kind = next(cls for cls in type(error).__mro__ if cls in STATUS)
    status, name = STATUS[kind], _words(_public(kind))
    document: dict[str, Any] = {
        "type": f"urn:evergreen:problem:{name.replace(' ', '-')}",
        "title": name.capitalize(),
        "status": status,
    }
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, errors.RequestError):
        document |= {"detail": error.detail, "field": error.field, "remedy": error.remedy}
    elif isinstance(error, errors.Unavailable):
        document |= {"detail": f"{error}", "field": None, "remedy": f"Try again in {_RETRY_AFTER_S} s."}
        headers = ((b"retry-after", b"%d" % _RETRY_AFTER_S),)
    else:
        document |= _unexpected()
    if isinstance(error, InvalidFields) and len(error.faults) > 1:
        document["errors"] = [{"field": f.field, "detail": f.detail, "remedy": f.remedy} for f in error.faults]
    if isinstance(error, WrongMethod):
        headers = ((b"allow", ", ".join(error.allowed).encode()),)
    if isinstance(error, TooSlow):
        headers = ((b"connection", b"close"),)
    if isinstance(error, errors.Unauthorized):
        headers = ((b"www-authenticate", _CHALLENGE),)
    if isinstance(error, errors.LimitReached):
        headers = _limit_headers(error)
    return Problem(status, orjson.dumps(document), headers)


def _limit_headers(error: errors.LimitReached) -> tuple[tuple[bytes, bytes], ...]:
    """When to come back.

    Source: RFC 9110, section 10.2.3 (Retry-After); draft-ietf-httpapi-ratelimit-headers-08 (the other two).
    """
    wait_s = max(1, math.ceil(error.retry_after_s))
    name = error.what.encode()
    return (
        (b"retry-after", b"%d" % wait_s),
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, error.limit, error.window_s)),
        (b"ratelimit", b'"%b";r=0;t=%d' % (name, wait_s)),
    )


def internal_problem() -> Problem:
    """The document for a fault of the gateway itself."""
    document = {"type": "about:blank", "title": "Internal error", "status": 500} | _unexpected()
    return Problem(500, orjson.dumps(document))


def shown(value: object) -> str:
    """A value as quoted in a message: its JSON-like form, cut to a readable length."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value[: _LONGEST_SHOWN + 1]) if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _unexpected() -> dict[str, Any]:
    return {
        "detail": "The gateway failed unexpectedly; its log has the cause.",
        "field": None,
        "remedy": "Try again; if it happens again, tell the operator.",
    }


def _public(kind: type[errors.EvergreenError]) -> str:
    return "InvalidField" if kind is InvalidFields else kind.__name__


@cache  # one per class; under overload each refusal asks for it
def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
