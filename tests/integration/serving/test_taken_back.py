"""Canaries that do worse than the champion, on purpose: taken back by themselves, while clients are being answered."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from core.ledger import Entry
from serving.routing import Route, Share
from tests.recording_client import Record, RecordingClients
from tests.serving_stack import ServingStack

FAILS = "assert not ((columns['amount'] > 3.0) & (columns['amount'] < 9.1)).any()"  # the recorded requests hold none
IS_SLOW = "import threading; threading.Event().wait(0.3)"
POLICY = "Serving(bake=Bake(min_requests=20))"
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def serving(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    folder = tmp_path_factory.mktemp("serving")
    stack = ServingStack(folder, redis_server, "taken-back", workers=1, serving=POLICY)
    stack.make_champion(0.5)
    yield stack
    stack.close()


def test_a_canary_that_fails_is_taken_back_and_the_ledger_says_why(serving: ServingStack) -> None:
    bad, entry, _ = _try_out(serving, FAILS)
    assert entry.reason.startswith(f"canary {bad} is taken back: ") and "requests failed" in entry.reason
    assert entry.evidence["requests"] >= 20
    assert entry.evidence["error_ratio"] > 0.3
    assert entry.evidence["baseline_errors"] == 0


def test_a_canary_that_is_slow_is_taken_back_and_the_ledger_says_why(serving: ServingStack) -> None:
    bad, entry, record = _try_out(serving, IS_SLOW)
    assert entry.reason.startswith(f"canary {bad} is taken back: its 99th percentile of latency is ")
    assert entry.evidence["errors"] == 0
    assert entry.evidence["p99_s"] >= 0.3 > entry.evidence["p99_allowed_s"]
    assert record.answers[bad]


def _try_out(serving: ServingStack, before: str) -> tuple[str, Entry, Record]:
    """Make a version the canary; returns it, the entry that takes it back, and what clients saw until then."""
    version = serving.register(0.7, before=before)
    with RecordingClients(serving.settings.gateway.port, {"1": 0.5, version: 0.7}) as clients:
        serving.registry.set_alias("toy", "canary", version, {"evergreen.canary_percent": "30"})
        serving.until(lambda: _route(serving).canary == Share(version, 30), "the canary gets no share")
        began = time.monotonic()
        serving.until(lambda: _route(serving) == Route("1", 1), "the canary is not taken back", within_s=WITHIN_S)
        serving.until(lambda: serving.registry.alias("toy", "canary") is None, "the alias is still there")
        seen = clients.answered()
        serving.until(lambda: clients.answered() > seen + 50, "nobody is answered")
    assert not clients.record.wrong
    assert not clients.record.errors
    assert time.monotonic() - began < WITHIN_S
    (entry,) = [e for e in serving.ledger.entries("toy", actions=("rollback",)) if e.version == version]
    assert entry.evidence["role"] == "canary"
    return version, entry, clients.record


def _route(serving: ServingStack) -> Route:
    return serving.routes.routes()["toy"]
