"""An audit that finds something is recorded, said aloud and sent out; one that finds nothing is only recorded."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.ledger import Ledger
from core.settings import Settings
from features.offline.audit import AuditReport
from flows import skew
from tests.sample_use_case import sample_use_case

NOW = datetime(2019, 2, 5, tzinfo=UTC)
NAME = "sample"


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A ledger, an audit that finds what `found` says, and the events that were emitted."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    whole = SimpleNamespace(
        ledger=ledger,
        settings=Settings(home=tmp_path),
        log="the log",
        found=AuditReport(0, {}, {}),
        asked=[],
        emitted=[],
    )

    def audit_features(log: Any, use_case: Any, **options: Any) -> AuditReport:
        whole.asked.append((log, use_case.name, options))
        return whole.found  # type: ignore[no-any-return]

    def emit_event(name: str, **what: Any) -> None:
        whole.emitted.append((name, what))

    monkeypatch.setattr(skew, "audit_features", audit_features)
    monkeypatch.setattr(skew, "emit_event", emit_event)
    monkeypatch.setattr(skew, "get_run_logger", lambda: logging.getLogger("skew"))
    return whole


def test_the_monitored_window_is_sampled_anew_each_time(context: Any) -> None:
    use_case = sample_use_case()
    for moment in (NOW, NOW + timedelta(hours=1)):
        skew.audit(context, use_case, moment)
    (first, second) = (options for _, _, options in context.asked)
    assert (first["rows"], first["since"], first["until"]) == (200, NOW - use_case.policy.monitor_window, NOW)
    assert first["seed"] != second["seed"]
    assert context.ledger.entries(NAME) == [], "nothing was served, so there is nothing to record"


def test_agreement_is_recorded_and_nothing_else(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    context.found = AuditReport(200, {"fare": 0}, {"fare": 0.0})
    skew.audit(context, sample_use_case(), NOW)
    (entry,) = context.ledger.entries(NAME, kind="audit")
    assert (entry.action, entry.evidence) == ("pass", {"rows": 200})
    assert not context.emitted
    assert not caplog.records


def test_skew_is_an_alarm(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    context.found = AuditReport(200, {"fare": 3, "trips": 0}, {"fare": 0.25, "trips": 0.0})
    skew.audit(context, sample_use_case(), NOW)
    (entry,) = context.ledger.entries(NAME, kind="audit")
    assert (entry.action, entry.as_of) == ("alarm", NOW)
    assert entry.evidence["features"] == {"fare": {"mismatches": 3, "largest_difference": 0.25}}
    ((name, event),) = context.emitted
    assert name == "evergreen.features.skewed"
    assert event["resource"]["prefect.resource.id"] == "evergreen.use-case.sample"
    assert event["payload"]["features"] == entry.evidence["features"]
    assert event["payload"]["decision_id"] == str(entry.id)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "fare in 3" in record.getMessage()
