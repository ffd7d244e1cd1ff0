from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from core.errors import SettingsError
from core.settings import Settings, load_settings
from serving.gateway.tracing import NoTracing, Sampling, build_tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def header(version: str = "00", trace: str = TRACE, parent: str = PARENT, flags: str = "01", rest: str = "") -> bytes:
    return f"{version}-{trace}-{parent}-{flags}{rest}".encode()


@pytest.mark.parametrize("given", [header(), header(flags="03"), header(version="01", rest="-more")])
def test_a_request_of_a_trace_joins_it(given: bytes) -> None:
    trace = Sampling(0.0).choose(given)
    assert trace is not None
    assert (f"{trace.trace_id:032x}", f"{trace.parent_id:016x}") == (TRACE, PARENT)
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id:016x}-01".encode()
    assert trace.span_id != trace.parent_id


def test_a_client_that_chose_not_to_trace_is_followed() -> None:
    assert Sampling(1.0).choose(header(flags="00")) is None


@pytest.mark.parametrize(
    "given",
    [
        *(None, b"", b"nonsense", header() + b" ", header(version="ff"), header(flags="zz")),
        *(header(trace="0" * 32), header(parent="0" * 16), header(trace="A" * 32)),
    ],
)
def test_without_a_sound_header_a_trace_begins_here(given: bytes | None) -> None:
    trace = Sampling(1.0).choose(given)
    assert trace is not None and trace.trace_id and trace.span_id and not trace.parent_id
    assert Sampling(0.0).choose(given) is None


def test_the_ratio_is_the_share_of_requests() -> None:
    sampling = Sampling(0.25)
    traced = [trace for _ in range(4000) if (trace := sampling.choose(None))]
    assert 800 < len(traced) < 1200
    assert max(Counter(trace.trace_id for trace in traced).values()) == 1


def test_without_an_endpoint_nothing_is_traced_nor_loaded() -> None:
    tracing = build_tracing(Settings())
    assert isinstance(tracing, NoTracing)
    assert tracing.begin(header()) is None
    code = "import sys, serving.gateway.tracing as t; from core.settings import Settings; t.build_tracing(Settings()); "
    code += "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "value"), [("OTLP_ENDPOINT", "collector:4318"), ("SAMPLE_RATIO", "1.5")])
def test_a_setting_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"EVERGREEN_TELEMETRY__{name}", value)
    with pytest.raises(SettingsError, match=f"EVERGREEN_TELEMETRY__{name}"):
        load_settings()
