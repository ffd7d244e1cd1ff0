from __future__ import annotations

import math

from features.offline.audit import AuditReport
from monitoring.skew import judge_audit


def report(**mismatches: int) -> AuditReport:
    gaps = {name: 0.5 * n for name, n in mismatches.items()}
    return AuditReport(rows=200, mismatches=mismatches, largest_difference=gaps)


def test_agreement_passes_and_keeps_little() -> None:
    decision = judge_audit(report(fare=0, trips=0))
    assert (decision.action, decision.evidence) == ("pass", {"rows": 200})
    assert judge_audit(AuditReport(0, {}, {})).action == "pass"


def test_a_single_value_is_an_alarm_with_evidence_per_feature() -> None:
    decision = judge_audit(report(fare=0, trips=1))
    assert decision.action == "alarm"
    assert "of 200 audited vectors trips in 1" in decision.reason
    assert decision.evidence == {"rows": 200, "features": {"trips": {"mismatches": 1, "largest_difference": 0.5}}}


def test_the_worst_come_first_and_the_sentence_stays_short() -> None:
    decision = judge_audit(report(a=1, b=3, c=2, d=3, e=1))
    assert list(decision.evidence["features"]) == ["b", "d", "c", "a", "e"]
    assert decision.reason.endswith("b in 3, d in 3, c in 2 and 2 more")


def test_a_value_that_is_missing_on_one_side_can_be_stored_as_json() -> None:
    decision = judge_audit(AuditReport(3, {"fare": 1}, {"fare": math.nan}))
    assert decision.evidence["features"]["fare"]["largest_difference"] is None
