"""Traces of predict requests: who is traced, and under which names."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from core.settings import Settings

HEADER = b"traceparent"
Stage = tuple[str, int, int]
"""A part of a request: its name, when it began and when it ended, in ns since 1970 UTC."""
Attribute = str | int | float | bool
passed_on: ContextVar[bytes | None] = ContextVar("traceparent", default=None)
"""The traceparent for the model host; the first one's where several requests share a call."""

# Source: W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header: versions to come may append fields
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Trace:
    """A request that is traced.

    Args:
        trace_id: 128 bits, not 0.
        span_id: of the gateway's own span, 64 bits, not 0.
        parent_id: of the client's span; 0 if the trace begins here.

    Example:
        >>> Trace(trace_id=1, span_id=2).traceparent
        b'00-00000000000000000000000000000001-0000000000000002-01'
    """

    trace_id: int
    span_id: int
    parent_id: int = 0

    @property
    def traceparent(self) -> bytes:
        """What is passed on, so that those who are asked next become children of this request."""
        return b"00-%032x-%016x-01" % (self.trace_id, self.span_id)


class Tracing(Protocol):
    """Takes note of requests. Must never block, nor raise because of what it takes note of."""

    def begin(self, traceparent: bytes | None) -> Trace | None:
        """Decide whether a request is traced, before anything is done for it; None if it is not.

        Args:
            traceparent: the request's header, if it has one. A client that traces a request has it traced here too,
                and one that chose not to has not.
        """
        ...

    def record(
        self,
        trace: Trace,
        name: str,
        *,
        started_ns: int,
        ended_ns: int,
        stages: Sequence[Stage] = (),
        attributes: Mapping[str, Attribute] | None = None,
        failed: bool = False,
    ) -> None:
        """Hand over a request that has ended, to be sent some time later.

        Args:
            trace: from `begin`.
            name: method and route, e.g. ``POST /v1/models/{use_case}/predict``.
            started_ns: when it began, ns since 1970 UTC.
            ended_ns: when it ended.
            stages: what it was made of; each becomes a child.
            attributes: further facts.
            failed: whether the gateway is at fault (5xx).
        """
        ...

    def close(self) -> None:
        """Send what is left, for at most a few seconds."""
        ...


class NoTracing:
    """Traces nothing."""

    def begin(self, traceparent: bytes | None) -> Trace | None:
        """No."""
        return None

    def record(self, trace: Trace, name: str, **facts: object) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class Sampling:
    """Decides which requests are traced: as the client did, else a share of them.

    Args:
        ratio: share of the requests without a traceparent, 0 to 1.

    Example:
        >>> Sampling(0.0).choose(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01").parent_id == int("b" * 16, 16)
        True
        >>> Sampling(1.0).choose(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00") is None
        True
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def choose(self, traceparent: bytes | None) -> Trace | None:
        """The trace a request belongs to, or None."""
        if traceparent is not None and (found := _TRACEPARENT.fullmatch(traceparent)):
            trace_id, parent_id = int(found[2], 16), int(found[3], 16)
            if trace_id and parent_id:
                return Trace(trace_id, new_id(64), parent_id) if int(found[4], 16) & _SAMPLED else None
        if random.random() >= self._ratio:
            return None
        return Trace(new_id(128), new_id(64))


def new_id(bits: int) -> int:
    """A random id that is not 0. From the module's generator, which is seeded anew in every forked process."""
    return random.getrandbits(bits) or 1


def build_tracing(settings: Settings) -> Tracing:
    """The tracing that the settings ask for; without an endpoint OpenTelemetry is not even loaded."""
    if not settings.telemetry.otlp_endpoint:
        return NoTracing()
    from serving.gateway.otlp import OtlpTracing

    return OtlpTracing(settings.telemetry)
