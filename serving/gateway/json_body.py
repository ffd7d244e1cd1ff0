"""Reading a request's body: bounded, in time, strict JSON."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from core.errors import TooLarge
from serving.gateway.problems import MalformedBody, TooSlow, shown

if TYPE_CHECKING:
    from starlette.types import Receive

BODY_TIME_S = 10.0


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class _DuplicateKey(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes; no more than that is ever held.

    Raises:
        TooLarge: as soon as that is known, by Content-Length or while reading.
        TooSlow: if it has not arrived after ten seconds.
        ClientGone: if the client went away.
    """
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > limit):
            raise too_large(limit)
    try:
        async with asyncio.timeout(BODY_TIME_S):
            return await _gather(receive, limit)
    except TimeoutError as error:
        raise too_slow() from error


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be one JSON object, strictly as in RFC 8259, without duplicate keys.

    NaN, Infinity, numbers beyond a double and lone surrogates are not JSON and are refused.

    Raises:
        MalformedBody: saying where and what.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(
            f"The body is not valid JSON: {error}.",
            field=_culprit(body),
            remedy="Send one JSON object, UTF-8 encoded, finite numbers only.",
        ) from error
    if type(document) is not dict:
        raise MalformedBody(f"The body must be a JSON object, got {shown(document)}.", remedy="Send one JSON object.")
    if b"\\" in body or _colons(body) != _members(document):
        _refuse_duplicates(body)
    return document


async def _gather(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else bytes(chunk)
        chunks.append(chunk)


def _culprit(body: bytes) -> str | None:
    """Path of the first value that lenient parsers take, but JSON does not know: NaN, infinity, half a character."""
    try:
        pending = [("", json.loads(body.decode(), parse_int=len))]
    except (ValueError, RecursionError):
        return None
    while pending:
        path, value = pending.pop()
        if type(value) is dict:
            if not all(map(_is_encodable, value)):
                return path[:200] or None
            inside = [(f"{path}.{key[:60]}" if path else key[:60], member) for key, member in value.items()]
            pending.extend(reversed(inside))
        elif type(value) is list:
            pending.extend((f"{path}[{i}]", value[i]) for i in range(len(value) - 1, -1, -1))
        elif (type(value) is float and not math.isfinite(value)) or (type(value) is str and not _is_encodable(value)):
            return path[:200] or None
    return None


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def too_slow() -> TooSlow:
    """The error for a body that takes too long."""
    return TooSlow(f"The body did not arrive within {BODY_TIME_S:g} s.", remedy="Send the whole body at once.")


def too_large(limit: int) -> TooLarge:
    """The error for a body of more than `limit` bytes."""
    return TooLarge(f"The body is larger than {limit} bytes.", remedy="Split the call into smaller ones.")


def _colons(body: bytes) -> int:
    """Colons outside strings: one per object member. Exact for valid JSON without a backslash."""
    return b"".join(body.split(b'"')[::2]).count(b":")


def _members(document: dict[str, Any]) -> int:
    """Members of the object, and of the objects in it and in its arrays; deeper ones only make the count too low."""
    count = len(document)
    for value in document.values():
        if type(value) is dict:
            count += len(value)
        elif type(value) is list:
            count += sum(map(len, value if set(map(type, value)) == {dict} else filter(_is_object, value)))
    return count


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _refuse_duplicates(body: bytes) -> None:
    """The slow, exact way, for bodies the count cannot clear. The body is known to be valid JSON."""
    try:
        json.loads(body.decode(), object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except _DuplicateKey as error:
        raise MalformedBody(
            f"The key {shown(error.key)} stands twice in one object.", remedy="Name each key once."
        ) from error
    except RecursionError as error:
        raise MalformedBody("The body is nested too deeply.", remedy="Send flat objects.") from error


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKey(key)
        seen.add(key)
