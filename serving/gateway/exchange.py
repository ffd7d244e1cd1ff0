"""One request in progress: what an endpoint gets, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.keys.key import Scope

Headers = tuple[tuple[bytes, bytes], ...]
RawHeaders = Sequence[tuple[bytes, bytes]]

TIMEOUT_HEADER = "X-Evergreen-Timeout-Ms"
"""In which a request says how long its answer is of use."""
LONGEST_TIMEOUT_MS = 600_000


@dataclass(slots=True)  # one per request: frozen ones take three times as long to make
class Reply:
    """A whole answer.

    Args:
        status: HTTP status.
        body: its bytes; empty with 204.
        headers: further headers, lower-case names.
        media_type: of the body.
    """

    status: int
    body: bytes
    headers: Headers = ()
    media_type: bytes = b"application/json"


@dataclass(slots=True)
class Call:
    """A request that was read and let in.

    Args:
        body: the whole body.
        headers: names in lower case.
        now_us: the moment that counts as now, µs since 1970 UTC.
    """

    body: bytes
    headers: RawHeaders
    now_us: int


Respond = Callable[[Reply | BaseException], None]
"""Called once per call, with the answer or with what went wrong. Must be called in the event loop's thread."""


class Endpoint(Protocol):
    """Answers POSTs to one route. Must not keep anything of a call it refuses."""

    @property
    def route(self) -> str:
        """The path as a template, for metrics and documents."""
        ...

    @property
    def scope(self) -> Scope:
        """What an API key must allow."""
        ...

    @property
    def use_case(self) -> str | frozenset[str]:
        """The use case it is about, or all of them: an API key must be good for each."""
        ...

    def require_room(self) -> None:
        """Return if a call may come in; asked before its body is read.

        Raises:
            Overloaded: if it would wait too long.
        """
        ...

    def begin(self, call: Call, respond: Respond) -> None:
        """Begin to answer; `respond` is called now or later, exactly once unless this raises.

        Raises:
            EvergreenError: to be answered with a problem document.
        """
        ...


def header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name.

    Example:
        >>> header([(b"accept", b"*/*")], b"accept")
        b'*/*'
    """
    for known, value in headers:
        if known == name:
            return value
    return None
