"""What counts as now for a request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from core.clock import Clock, to_us
from serving.gateway.problems import BadHeader
from serving.gateway.validation import Rejected, moment_us

HEADER = "X-Evergreen-Now"
_HEADER = HEADER.lower().encode()
RawHeaders = Iterable[tuple[bytes, bytes]]


class RequestClock(Protocol):
    """Tells now for a request."""

    def now_us(self, headers: RawHeaders) -> int:
        """Microseconds since 1970 UTC, given the request's headers (lower-case names)."""
        ...


class ServerTime:
    """Now is the server's now, whatever the request says.

    Args:
        clock: the server's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now_us(self, headers: RawHeaders) -> int:
        """Microseconds since 1970 UTC."""
        return to_us(self._clock.now())


class WallTime:
    """Now is the machine's now: ``ServerTime(SystemClock())`` without the objects in between."""

    def now_us(self, headers: RawHeaders) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000


class EventTime:
    """Now is what the request's X-Evergreen-Now header says: history is being replayed."""

    def now_us(self, headers: RawHeaders) -> int:
        """Microseconds since 1970 UTC.

        Raises:
            BadHeader: if the header is missing or no moment.
        """
        for name, value in headers:
            if name == _HEADER:
                try:
                    return moment_us(value.decode("latin-1"))
                except Rejected as rejected:
                    raise BadHeader(rejected.detail, field=HEADER, remedy=rejected.remedy) from rejected
        raise BadHeader(
            "The header is missing; this gateway replays history.",
            field=HEADER,
            remedy="Send the moment of the call, such as 2019-02-02T12:30:00Z.",
        )
