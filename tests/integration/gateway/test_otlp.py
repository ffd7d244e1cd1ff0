"""Traces as a collector receives them: a real HTTP server that decodes what it is sent."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from core.settings import Settings, TelemetrySettings
from serving.gateway.tracing import Tracing, build_tracing

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NAME = "POST /v1/models/{use_case}/predict"


class Collector:
    """What it was sent, span by span with the name of the service."""

    def __init__(self) -> None:
        self.spans: Queue[tuple[str, Any]] = Queue()
        self.answers = Event()
        self.answers.set()
        self.url = ""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            collector.answers.wait(30)
            for group in request.resource_spans:
                facts = {a.key: a.value.string_value for a in group.resource.attributes}
                for scope in group.scope_spans:
                    for span in scope.spans:
                        collector.spans.put((facts["service.name"], span))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield collector
    collector.answers.set()
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def tracing_to(url: str) -> Iterator[Tracing]:
    tracing = build_tracing(Settings(telemetry=TelemetrySettings(otlp_endpoint=url, sample_ratio=0.0)))
    try:
        yield tracing
    finally:
        tracing.close()


def test_a_request_arrives_with_its_stages_under_the_clients_span(collector: Collector) -> None:
    with tracing_to(collector.url) as tracing:
        trace = tracing.begin(PARENT)
        assert trace is not None
        tracing.record(
            trace, NAME,
            started_ns=1_000, ended_ns=9_000, stages=[("queue", 1_500, 2_000), ("model", 2_000, 8_000)],
            attributes={"evergreen.use_case": "toy", "http.response.status_code": 503, "evergreen.instances": 3},
            failed=True,
        )  # fmt: skip
    arrived = [collector.spans.get(timeout=10) for _ in range(3)]
    assert {service for service, _ in arrived} == {"evergreen-gateway"}
    spans = {span.name: span for _, span in arrived}
    own = spans[NAME]
    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (PARENT[3:35].decode(), PARENT[36:52].decode())
    assert own.span_id.hex() == trace.traceparent[36:52].decode()
    assert (own.kind, own.status.code) == (own.SPAN_KIND_SERVER, own.status.STATUS_CODE_ERROR)
    assert (own.start_time_unix_nano, own.end_time_unix_nano) == (1_000, 9_000)
    assert {a.key: a.value.string_value or a.value.int_value for a in own.attributes} == {
        "evergreen.use_case": "toy", "http.response.status_code": 503, "evergreen.instances": 3,
    }  # fmt: skip
    for name, began, ended in (("queue", 1_500, 2_000), ("model", 2_000, 8_000)):
        child = spans[name]
        assert (child.trace_id, child.parent_span_id) == (own.trace_id, own.span_id)
        assert (child.start_time_unix_nano, child.end_time_unix_nano) == (began, ended)
    assert len({span.span_id for span in spans.values()}) == 3


def test_a_prediction_is_traced_through_the_gateway_and_told_in_the_log(
    collector: Collector, start: Callable[..., Any], host: Any
) -> None:
    settings = {"TELEMETRY__OTLP_ENDPOINT": collector.url, "TELEMETRY__SAMPLE_RATIO": "0"}
    gateway = start(GATEWAY__SLOW_S="0.000001", LOG_FORMAT="json", **settings)
    url, rows = f"http://127.0.0.1:{gateway.port}/v1/models/tip/predict", [{"zone": 7, "fare": 1.0}] * 2
    first = httpx.post(url, json={"instances": rows})
    assert first.status_code == 200, first.text
    reply = httpx.post(url, json={"instances": rows}, headers={"traceparent": PARENT.decode()})
    spans = {span.name: span for _, span in (collector.spans.get(timeout=10) for _ in range(6))}
    assert set(spans) == {NAME, "queue", "call", "features", "model", "log"}
    own = spans[NAME]
    assert own.parent_span_id.hex() == PARENT[36:52].decode()
    assert host.traceparents == [None, f"00-{own.trace_id.hex()}-{own.span_id.hex()}-01"]
    assert abs(own.start_time_unix_nano - time.time_ns()) < 60e9
    assert own.start_time_unix_nano <= spans["queue"].start_time_unix_nano
    assert spans["queue"].end_time_unix_nano == spans["call"].start_time_unix_nano
    assert spans["call"].end_time_unix_nano <= own.end_time_unix_nano
    facts = {a.key: a.value.string_value or a.value.int_value for a in own.attributes}
    assert (facts["evergreen.version"], facts["evergreen.instances"]) == ("1", 2)

    host.failures = [500] * 2
    failed = httpx.post(url, json={"instances": rows}, headers={"traceparent": PARENT.decode()})
    assert failed.status_code == 503, failed.text
    _, span = collector.spans.get(timeout=10)
    assert span.status.code == span.status.STATUS_CODE_ERROR
    gateway.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in gateway.process.communicate(timeout=20)[1].splitlines()]
    slow = [line for line in lines if line["message"].startswith("predict slow")]
    assert slow[-1]["prediction_ids"] == reply.json()["prediction_ids"]
    assert (slow[-1]["use_case"], slow[-1]["version"], slow[-1]["level"]) == ("tip", "1", "WARNING")
    (bad,) = (line for line in lines if line["message"].startswith("predict failed"))
    assert len(bad["prediction_ids"]) == 2


def test_a_collector_that_does_not_answer_keeps_nobody_waiting(collector: Collector) -> None:
    collector.answers.clear()
    with tracing_to(collector.url) as tracing:
        trace = tracing.begin(PARENT)
        assert trace is not None
        started = time.monotonic()
        for _ in range(10_000):
            tracing.record(trace, NAME, started_ns=1, ended_ns=2)
        assert time.monotonic() - started < 2
        closing = time.monotonic()
    assert time.monotonic() - closing < 4
