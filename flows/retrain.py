"""The flow that trains a version, proves it, registers it, and promotes it when it wins."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger

from core.decision import Decision
from core.discovery import UseCaseFile
from core.errors import NotEnoughData
from flows.context import ALL, FlowContext, open_context
from flows.lease import Lease, hold
from flows.references import reference_files
from flows.steps import ACTOR, collect, compare, promote, register, train, trained_before

BY_HAND = "by hand"


@flow(name="retrain")
def retrain(use_case: str, as_of: str | None = None, reason: str = BY_HAND, decision_id: str | None = None) -> str:
    """Retrain a use case (or ``all``); at most one retrain of it runs at a time, and none is done twice.

    Args:
        use_case: its name, or ``all``: those with too few labels are passed over.
        as_of: ISO 8601 moment whose knowledge to train on; now by default.
        reason: why, for people.
        decision_id: the ledger's id of the decision that called for it; recorded by hand if missing.

    Returns:
        One sentence for each: what came of it.
    """
    context, outcomes, problems = open_context(), [], []
    context.settle()
    for declared in context.select(use_case):
        try:
            outcomes.append(retrain_one(context, declared, as_of, reason, decision_id))
        except NotEnoughData as problem:
            if use_case != ALL:
                raise
            outcomes.append(str(problem))
        except Exception as problem:  # one use case that cannot be trained must not keep the others from it
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ExceptionGroup("some use cases could not be retrained", problems)
    return "; ".join(outcomes)


def retrain_one(
    context: FlowContext, declared: UseCaseFile, as_of: str | None, reason: str, decision_id: str | None
) -> str:
    """Retrain one use case under its lease, and record whatever comes of it."""
    use_case = declared.use_case.name
    moment = context.moment(use_case, as_of)
    with hold(context.ledger, f"retrain/{use_case}") as lease:
        if lease is None:
            return record(context, use_case, moment, "skipped", "a retrain is running", decision_id)
        if not decision_id:
            by_hand = Decision("retrain", reason, {"trigger": BY_HAND})
            decision_id = str(context.ledger.record(use_case, "trigger", by_hand, actor=BY_HAND, as_of=moment))
        try:
            return run_steps(context, declared, moment, lease, reason=reason, decision_id=decision_id)
        except Exception as problem:  # whatever ends a retrain belongs into its history
            record(context, use_case, moment, "failed", f"{type(problem).__name__}: {problem}", decision_id)
            raise


def run_steps(
    context: FlowContext, declared: UseCaseFile, moment: datetime, lease: Lease, *, reason: str, decision_id: str
) -> str:
    """Collect, check, train, judge, register, promote."""
    name = declared.use_case.name
    training = collect(context, declared, moment)
    known: dict[str, str | float] = {"fingerprint": training.fingerprint, "decision_id": decision_id}
    gate = trained_before(context, name, moment, training.fingerprint)
    if gate is not None and gate.version is not None:
        promote(context, name, gate.version, Decision(gate.action, gate.reason), moment, lease)
        again = f"version {gate.version} was trained on exactly this data already"
        return record(context, name, moment, "skipped", again, decision_id)
    candidates = train(context, declared, training, moment)
    candidate, verdict = compare(context, declared, candidates, moment)
    version, verdict = register(
        context, candidate, verdict, reference_files(candidate, training), moment=moment, lease=lease, reason=reason
    )
    known["compute_s"] = sum(sum(each.timings.values()) for each in candidates)
    recorded = Decision(verdict.action, verdict.reason, {**verdict.evidence, **known})
    context.ledger.record(name, "gate", recorded, actor=ACTOR, as_of=moment, version=version)
    promote(context, name, version, verdict, moment, lease)
    get_run_logger().info("%s version %s: %s: %s", name, version, verdict.action, verdict.reason)
    return f"version {version}: {verdict.action}: {verdict.reason}"


def record(context: FlowContext, name: str, moment: datetime, action: str, why: str, decision_id: str | None) -> str:
    """Put what became of a retrain on record."""
    decision = Decision(action, why, {"decision_id": decision_id})
    context.ledger.record(name, "trigger", decision, actor=ACTOR, as_of=moment)
    get_run_logger().info("%s: %s: %s", name, action, why)
    return f"{action}: {why}"
