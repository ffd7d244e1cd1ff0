"""People are told of a cause once, until it is over or a day has passed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.ledger import Entry
from monitoring.alerts import KIND, AlertPlan, plan_alerts

NOW = datetime(2019, 2, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
FAULT = {"column": "fare", "kind": "unit", "detail": "fare is 100 times what it was"}


class Told:
    """A ledger of one use case, and the alerts that were carried out."""

    def __init__(self, *, works: bool = True) -> None:
        self.entries: list[Entry] = []
        self.works = works

    def add(
        self, kind: str, action: str, evidence: Mapping[str, Any] | None = None, *, at: datetime, version: str = "8"
    ) -> int:
        id_ = len(self.entries) + 1
        self.entries.append(Entry(id_, "taxi_tip", kind, action, f"reason {id_}", evidence or {}, "t", version, at, at))
        return id_

    def look(self, *faults: Mapping[str, str], at: datetime, blind: str | None = None) -> AlertPlan:
        """A look of the monitor that finds these faults, and what is said of it then."""
        estimate = {"blind": blind}
        self.add("trigger", "wait", {"rows": 1000, "faults": list(faults), "estimate": estimate}, at=at)
        return self.tell(at)

    def tell(self, at: datetime) -> AlertPlan:
        newest = [entry for entry in reversed(self.entries) if at - entry.recorded_at <= timedelta(days=1)]
        past = [entry for entry in reversed(self.entries) if entry.kind == KIND]
        plan = plan_alerts([entry for entry in newest if entry.kind != KIND], past, as_of=at)
        for alert in plan.to_raise:
            self.add(KIND, "raise", {"alert": alert.as_json(), "delivered": {"webhook": self.works}}, at=at)
        for raised in plan.to_retry:
            self.add(KIND, "retry", {"alert_id": raised.id, "delivered": {"webhook": self.works}}, at=at)
        for cause in plan.ended:
            self.add(KIND, "end", {"cause": cause}, at=at)
        return plan


def causes(plan: AlertPlan) -> list[str]:
    return [alert.cause for alert in plan.to_raise]


def test_a_fault_is_told_once_while_it_lasts() -> None:
    told = Told()

    first, *others = (told.look(FAULT, at=NOW + i * HOUR) for i in range(24))

    assert causes(first) == ["look/fault/unit/fare"]
    assert first.to_raise[0].severity == "page"
    assert first.to_raise[0].reason == FAULT["detail"]
    assert first.to_raise[0].command == "evergreen explain 1"
    assert all(plan == AlertPlan((), (), ()) for plan in others)


def test_after_a_day_it_is_told_again() -> None:
    told = Told()
    told.look(FAULT, at=NOW)

    assert causes(told.look(FAULT, at=NOW + 24 * HOUR)) == ["look/fault/unit/fare"]


def test_once_it_is_over_it_may_begin_again() -> None:
    told = Told()
    told.look(FAULT, at=NOW)

    over = told.look(at=NOW + HOUR)
    again = told.look(FAULT, at=NOW + 2 * HOUR)

    assert over.ended == ("look/fault/unit/fare",)
    assert causes(again) == ["look/fault/unit/fare"]
    assert told.look(at=NOW + 3 * HOUR).ended == ("look/fault/unit/fare",)
    assert told.look(at=NOW + 4 * HOUR).ended == ()


def test_two_faults_are_two_causes() -> None:
    told = Told()
    told.look(FAULT, at=NOW)

    plan = told.look(FAULT, {**FAULT, "column": "distance"}, at=NOW + HOUR)

    assert causes(plan) == ["look/fault/unit/distance"]
    assert plan.ended == ()


def test_a_fault_does_not_end_because_nobody_looked() -> None:
    told = Told()
    told.look(FAULT, at=NOW)

    assert told.tell(NOW + timedelta(days=3)).ended == ()


def test_a_blind_estimate_is_a_notice_with_its_reason() -> None:
    (alert,) = Told().look(at=NOW, blind="concept drift: …").to_raise

    assert (alert.cause, alert.severity, alert.reason) == ("look/blind", "notice", "concept drift: …")


def test_facts_may_be_a_part_of_the_evidence() -> None:
    told = Told()
    told.add("trigger", "block", {"trigger": "faults", "facts": {"rows": 9, "faults": [FAULT]}}, at=NOW)

    assert causes(told.tell(NOW)) == ["look/fault/unit/fare"]


@pytest.mark.parametrize(
    ("kind", "action", "cause", "severity", "command"),
    [
        ("trigger", "failed", "retrain failed", "page", "evergreen retrain taxi_tip"),
        ("trigger", "retrain", "retrain/drift", "notice", "evergreen explain 1"),
        ("aftermath", "rollback", "aftermath/8", "page", "evergreen history taxi_tip"),
        ("deployment", "rollback", "bake/8", "page", "evergreen history taxi_tip"),
        ("deployment", "refuse", "refused/8", "page", "evergreen history taxi_tip"),
        ("deployment", "orphan", "orphan/8", "page", "evergreen history taxi_tip"),
        ("promotion", "hold", "held/8", "page", "evergreen approve taxi_tip 8"),
        ("promotion", "refuse", "held/8", "page", "evergreen history taxi_tip"),
        ("audit", "alarm", "audit", "page", "evergreen explain 1"),
    ],
)
def test_events_are_told_once(kind: str, action: str, cause: str, severity: str, command: str) -> None:
    told = Told()
    told.add(kind, action, {"trigger": "drift"}, at=NOW)

    (alert,) = told.tell(NOW).to_raise

    assert (alert.cause, alert.severity, alert.command) == (cause, severity, command)
    assert alert.decision_id == 1
    assert [told.tell(NOW + i * HOUR).to_raise for i in range(1, 26)] == [()] * 25


def test_the_same_event_within_a_day_is_the_same_cause() -> None:
    told = Told()
    for hour in range(0, 60, 4):
        told.add("trigger", "failed", at=NOW + hour * HOUR)
        told.tell(NOW + hour * HOUR)

    raised = [entry for entry in told.entries if entry.action == "raise"]
    assert [entry.as_of - NOW for entry in raised] == [0 * HOUR, 24 * HOUR, 48 * HOUR]


@pytest.mark.parametrize(
    ("kind", "action"),
    [("trigger", "wait"), ("gate", "keep"), ("audit", "pass"), ("aftermath", "confirm"), ("promotion", "promote")],
)
def test_what_goes_as_it_should_is_not_told(kind: str, action: str) -> None:
    told = Told()
    told.add(kind, action, {"rows": 5}, at=NOW)

    assert told.tell(NOW) == AlertPlan((), (), ())


def test_what_did_not_get_through_is_tried_until_it_does() -> None:
    told = Told(works=False)
    told.look(FAULT, at=NOW)
    second = told.look(FAULT, at=NOW + HOUR)
    told.works = True
    third = told.look(FAULT, at=NOW + 2 * HOUR)
    fourth = told.look(FAULT, at=NOW + 3 * HOUR)

    assert [len(plan.to_retry) for plan in (second, third, fourth)] == [1, 1, 0]
    assert all(plan.to_raise == () for plan in (second, third, fourth))


def test_what_is_over_or_a_day_old_is_tried_no_more() -> None:
    told = Told(works=False)
    told.look(FAULT, at=NOW)
    told.look(at=NOW + HOUR)
    assert told.look(at=NOW + 2 * HOUR).to_retry == ()

    old = Told(works=False)
    old.add("aftermath", "rollback", at=NOW)
    old.tell(NOW)
    assert len(old.tell(NOW + 23 * HOUR).to_retry) == 1
    assert old.tell(NOW + 24 * HOUR).to_retry == ()
