"""The flow that watches the live versions: calls for retrains, takes back promotions, audits features, tells people."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger
from prefect.events import emit_event

from core.decision import Decision
from core.use_case import UseCase
from flows.aftermath import look_back
from flows.alerting import send_alerts
from flows.context import FlowContext, open_context
from flows.dispatching import called_for, send_dispatches
from flows.look_page import keep_page
from flows.past import past_of
from flows.rollouts import finish_rollout
from flows.skew import audit
from flows.versions import live_version
from monitoring.live import Served, window_start
from monitoring.look import look
from monitoring.triggers import decide_retrain

ACTOR = "flow monitor"
RETRAIN_REQUESTED = "evergreen.retrain.requested"


@flow(name="monitor")
def monitor(use_case: str, as_of: str | None = None) -> dict[str, Decision]:
    """Look at a use case (or at ``all``), record the decisions, act on them, and tell people what they should know.

    Args:
        use_case: its name, or ``all``.
        as_of: ISO 8601 moment of the look; now by default.

    Returns:
        The decision by use case.
    """
    context, decisions, problems = open_context(), {}, []
    context.settle()
    for declared in context.select(use_case):
        name = declared.use_case.name
        try:
            moment = context.moment(name, as_of)
            decisions[name] = watch(context, declared.use_case, moment)
            get_run_logger().info("%s: %s: %s", name, decisions[name].action, decisions[name].reason)
            audit(context, declared.use_case, moment)
            look_back(context, declared.use_case, moment)
            finish_rollout(context, declared.use_case, moment)
        except Exception as problem:  # one use case that cannot be watched must not blind the others
            problems.append(problem)
        send_dispatches(context, name)
        send_alerts(context, name, as_of)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ExceptionGroup("some use cases could not be watched", problems)
    return decisions


def watch(context: FlowContext, use_case: UseCase, moment: datetime) -> Decision:
    """One look at one use case: measure, decide, record, request; draw the first of a version and what calls."""
    name, since = use_case.name, window_start(use_case, moment)
    served = Served(
        context.log.predictions(name, since=since, until=moment), context.log.labels(name, since=since, known_by=moment)
    )
    live = live_version(context, use_case)
    facts = look(use_case, live, served, past_of(context, use_case, live, moment), as_of=moment)
    decision = decide_retrain(facts, use_case.policy)
    decision_id = context.ledger.record(
        name, "trigger", decision, actor=ACTOR, as_of=moment, version=facts.version
    )  # fmt: skip
    if decision.action == "retrain":
        request_retrain(context, name, moment, decision, decision_id)
    if live is not None and facts.rows >= use_case.policy.min_monitor_rows:
        keep_page(context, use_case, live, served, decision, moment)
    return decision


def request_retrain(context: FlowContext, name: str, moment: datetime, decision: Decision, decision_id: int) -> None:
    """Emit the event that starts the `retrain` deployment, unless GitHub retrains; its payload becomes parameters."""
    if context.settings.github.repository and context.settings.github.instead:
        return  # `send_dispatches` sees to it, at the end of the look
    emit_event(
        RETRAIN_REQUESTED,
        resource={"prefect.resource.id": f"evergreen.use-case.{name}", "prefect.resource.name": name},
        payload={
            "use_case": name,
            "as_of": moment.isoformat(),
            "reason": called_for(decision.evidence.get("trigger"), decision.reason),
            "decision_id": str(decision_id),
        },
    )
