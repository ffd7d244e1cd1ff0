"""Auditing what was served, and raising the alarm where it is not what the log gives."""

from __future__ import annotations

from datetime import datetime

from prefect import get_run_logger
from prefect.events import emit_event

from core.clock import to_us
from core.decision import Decision
from core.use_case import UseCase
from features.offline.audit import audit_features
from flows.context import FlowContext
from monitoring.skew import ALARM, judge_audit

ACTOR = "flow monitor"
SKEWED = "evergreen.features.skewed"
_AUDITED_ROWS = 200


def audit(context: FlowContext, use_case: UseCase, moment: datetime) -> Decision | None:
    """Recompute a sample of the monitored window and record what came of it; None if nothing was served in it.

    Each look takes another sample.
    """
    since = moment - use_case.policy.monitor_window
    report = audit_features(
        context.log, use_case, rows=_AUDITED_ROWS, seed=to_us(moment) % 2**32, since=since, until=moment,
        partitions=context.settings.stream.partitions,
    )  # fmt: skip
    if not report.rows:
        return None
    decision = judge_audit(report)
    decision_id = context.ledger.record(use_case.name, "audit", decision, actor=ACTOR, as_of=moment)
    if decision.action == ALARM:
        get_run_logger().error("%s: %s", use_case.name, decision.reason)
        raise_alarm(use_case.name, moment, decision, decision_id)
    return decision


def raise_alarm(name: str, moment: datetime, decision: Decision, decision_id: int) -> None:
    """Emit the event that automations may act on."""
    emit_event(
        SKEWED,
        resource={"prefect.resource.id": f"evergreen.use-case.{name}", "prefect.resource.name": name},
        payload={
            "use_case": name,
            "as_of": moment.isoformat(),
            "reason": decision.reason,
            "features": dict(decision.evidence["features"]),
            "decision_id": str(decision_id),
        },
    )
