"""Sending traces to an OpenTelemetry collector."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from core.settings import TelemetrySettings
from serving.gateway.tracing import Attribute, Sampling, Stage, Trace, new_id

_PATH = "/v1/traces"
_MOST_WAITING = 4096
_BATCH = 256
_EVERY_MS = 1000
_EXPORT_S = 5
_CLOSE_S = 3.0
_FLAGS = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("evergreen.gateway")
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class OtlpTracing:
    """Keeps ended requests in a bounded queue, from which a thread sends them in batches over OTLP/HTTP.

    While the collector is away or slow, the oldest are dropped. Spans are made when a request has ended, all at once
    and without the tracer: nobody needs the current span in between, and the moments are known only then.

    Args:
        settings: where to and how many.
    """

    def __init__(self, settings: TelemetrySettings) -> None:
        self._sampling = Sampling(settings.sample_ratio)
        self._resource = Resource.create({"service.name": settings.service_name})
        self._exporter = OTLPSpanExporter(settings.otlp_endpoint.rstrip("/") + _PATH, timeout=_EXPORT_S)
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=_MOST_WAITING, schedule_delay_millis=_EVERY_MS, max_export_batch_size=_BATCH
        )

    def begin(self, traceparent: bytes | None) -> Trace | None:
        """See Tracing."""
        return self._sampling.choose(traceparent)

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
        """See Tracing."""
        own = _context(trace.trace_id, trace.span_id)
        parent = _context(trace.trace_id, trace.parent_id, is_remote=True) if trace.parent_id else None
        for stage, began_ns, done_ns in stages:
            child = _context(trace.trace_id, new_id(64))
            self._end(stage, child, own, start_time=began_ns, end_time=done_ns)
        status = _ERROR if failed else _UNSET
        self._end(
            name, own, parent,
            attributes=attributes, kind=SpanKind.SERVER, status=status, start_time=started_ns, end_time=ended_ns,
        )  # fmt: skip

    def _end(self, name: str, context: SpanContext, parent: SpanContext | None, **facts: Any) -> None:
        self._processor.on_end(
            ReadableSpan(name, context, parent, resource=self._resource, instrumentation_scope=_SCOPE, **facts)
        )

    def close(self) -> None:
        """See Tracing. A collector that does not answer is not waited for."""
        last = threading.Thread(target=self._processor.shutdown, daemon=True)
        last.start()
        last.join(_CLOSE_S)
        if last.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _context(trace_id: int, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote, _FLAGS)
