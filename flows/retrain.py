"""The flow that delivers a version: checks, trains, tests, proves, registers it, and promotes it when it wins."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from core.decision import Decision
from core.discovery import UseCaseFile
from core.errors import NotEnoughData
from flows import steps
from flows.context import ALL, FlowContext, open_context
from flows.lease import Lease, hold
from flows.stages import DONE, FAILED, KIND, SKIPPED, Delivery, stages_table
from flows.steps import ACTOR, Chosen, Written, delivered_before, trained_before

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
        delivery = Delivery()
        delivery.known |= {"decision_id": decision_id, "flow_run_id": str(flow_run.id or "")}
        if lease is None:
            said = record(context, use_case, moment, "skipped", "a retrain is running", decision_id)
            close(context, use_case, moment, delivery, SKIPPED, said)
            return said
        if decision_id and delivered_before(context, use_case, decision_id):
            said = record(context, use_case, moment, "skipped", f"decision {decision_id} was delivered", decision_id)
            close(context, use_case, moment, delivery, SKIPPED, said)
            return said
        if not decision_id:
            by_hand = Decision("retrain", reason, {"trigger": BY_HAND})
            decision_id = str(context.ledger.record(use_case, "trigger", by_hand, actor=BY_HAND, as_of=moment))
        delivery.known["decision_id"] = decision_id
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "version"
                said = deliver(context, declared, moment, lease, delivery, folder, reason=reason)
        except Exception as problem:  # whatever ends a retrain belongs into its history
            said = f"{type(problem).__name__}: {problem}"
            record(context, use_case, moment, "failed", said, decision_id)
            close(context, use_case, moment, delivery, FAILED, said)
            raise
        is_new = any(stage.name == "train" for stage in delivery.stages)
        close(context, use_case, moment, delivery, DONE if is_new else SKIPPED, said)
        return said


def deliver(
    context: FlowContext, declared: UseCaseFile, moment: datetime, lease: Lease, delivery: Delivery, folder: Path, *,
    reason: str,
) -> str:  # fmt: skip
    """Run the stages; each is a task run in Prefect and a line of the delivery's record."""
    use_case, name, run = declared.use_case, declared.use_case.name, delivery.run
    training = run(steps.data_checks, context, declared, moment)
    known = {"fingerprint": training.fingerprint, "decision_id": delivery.known["decision_id"]}
    before = trained_before(context, name, moment, training.fingerprint)
    if before is not None and before.version is not None:
        delivery.known["version"] = before.version
        again = f"version {before.version} was trained on exactly this data already"
        _start(context, declared, before.version, Decision(before.action, before.reason, before.evidence), delivery,
               moment=moment, lease=lease)  # fmt: skip
        return record(context, name, moment, "skipped", again, known["decision_id"])
    chosen: Chosen = run(steps.train, context, declared, training, moment)
    report = run(steps.model_tests, chosen.candidate)
    written: Written = run(steps.parity, context, chosen.candidate, training, folder, moment=moment, reason=reason)
    run(steps.scan, name, written)
    verdict = run(steps.staging, context, use_case, written, chosen.verdict)
    delivery.known |= {"fit_s": round(chosen.fit_s, 3)}
    measured = {**known, "compute_s": chosen.compute_s, "digest": written.info.digest}
    verdict = run(steps.gate, verdict, report, measured)
    version = run(steps.register, context, written, verdict, chosen, moment=moment, lease=lease)
    delivery.known["version"] = version
    _start(context, declared, version, verdict, delivery, moment=moment, lease=lease)
    get_run_logger().info("%s version %s: %s: %s", name, version, verdict.action, verdict.reason)
    return f"version {version}: {verdict.action}: {verdict.reason}"


def _start(
    context: FlowContext, declared: UseCaseFile, version: str, verdict: Decision, delivery: Delivery, *,
    moment: datetime, lease: Lease,
) -> None:  # fmt: skip
    """Let a registered version begin as its verdict and the use case say; once, however often it is called."""
    use_case, run = declared.use_case, delivery.run
    waits = run(steps.rollout, context, use_case, version, verdict, moment=moment, lease=lease)
    is_champion = run(
        steps.promotion, context, use_case, version, verdict, moment=moment, lease=lease, waits=waits
    )  # fmt: skip
    run(steps.watch, use_case, version, is_champion, waits)


def record(context: FlowContext, name: str, moment: datetime, action: str, why: str, decision_id: str | None) -> str:
    """Put what became of a retrain on record."""
    decision = Decision(action, why, {"decision_id": decision_id})
    context.ledger.record(name, "trigger", decision, actor=ACTOR, as_of=moment)
    get_run_logger().info("%s: %s: %s", name, action, why)
    return f"{action}: {why}"


def close(context: FlowContext, name: str, moment: datetime, delivery: Delivery, action: str, said: str) -> None:
    """Put the delivery on record, stage by stage, in the ledger and on the page of the run in Prefect."""
    delivery.skip_rest(f"{delivery.failed.name} failed" if delivery.failed else said)
    remedy = f"evergreen retrain {name}, when its cause is gone" if action == FAILED else None
    decision = delivery.decision(action, said, {"remedy": remedy} if remedy else {})
    version = decision.evidence.get("version")
    context.ledger.record(name, KIND, decision, actor=ACTOR, as_of=moment, version=version)
    rows = stages_table(decision.evidence["stages"])
    try:
        create_table_artifact(rows, key=f"delivery-{name.replace('_', '-')}", description=f"{name}: {action}: {said}")
    except Exception as problem:  # a page for people, which the ledger does not need
        get_run_logger().warning("the table of stages could not be put on the run's page: %s", problem)
