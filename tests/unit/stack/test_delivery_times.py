"""Where the time goes between a decision and an answer is read from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.ledger import Entry
from flows.stages import STAGES
from stack.delivery_times import BETWEEN, SERVING, WAITING, delivery_times, slowest_parts

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(id_: int, kind: str, action: str, at_s: float, version: str | None = None, **evidence: Any) -> Entry:
    at = NOW + timedelta(seconds=at_s)
    return Entry(id_, "taxi_tip", kind, action, "r", evidence, "a", version, NOW, at)


def stages(first_s: float, seconds: Mapping[str, float], gap_s: float = 0.5) -> list[dict[str, Any]]:
    found, at_s = [], first_s
    for name in STAGES:
        started = (NOW + timedelta(seconds=at_s)).isoformat()
        found.append({"name": name, "status": "done", "started_at": started, "seconds": seconds.get(name, 0.0)})
        at_s += seconds.get(name, 0.0) + gap_s
    return found


def test_every_second_from_the_decision_to_the_answer_is_in_one_part() -> None:
    ran = stages(101.5, {"data_checks": 1.0, "train": 8.0, "staging": 3.0, "watch": 0.25})
    entries = [
        entry(4, "deployment", "deploy", 123.0, "5"),
        entry(3, "delivery", "done", 119.0, "5", decision_id="1", stages=ran, fit_s=6.0),
        entry(2, "delivery", "failed", 90.0, None, decision_id="0", stages=[]),
        entry(1, "trigger", "retrain", 100.0, trigger="drift"),
    ]

    (found,) = delivery_times(entries)

    assert (found.version, found.trigger) == ("5", "drift")
    assert found.total_s == pytest.approx(23.0) and found.other_s == pytest.approx(17.0)
    assert found.parts[WAITING] == pytest.approx(1.5) and found.parts["train"] == 8.0
    assert found.parts[BETWEEN] == pytest.approx(4.5), "nine gaps of half a second before the promotion"
    assert found.parts[SERVING] == pytest.approx(5.0) and "watch" not in found.parts
    assert found.as_json()["parts"]["staging"] == 3.0
    assert ("train", 8.0, 8.0) in slowest_parts([found])


def test_what_never_answered_is_left_out() -> None:
    ran = stages(1.0, {})
    kept = entry(2, "delivery", "done", 9.0, "5", decision_id="1", stages=ran)
    called = entry(1, "trigger", "retrain", 0.0, trigger="drift")
    assert delivery_times([kept, called]) == []
    assert slowest_parts([]) == []
