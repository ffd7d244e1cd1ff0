"""The flow that trains a version, proves it, registers it, and promotes it when it wins."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from core.decision import Decision
from core.discovery import UseCaseFile
from features.point_in_time import point_in_time_matrix
from features.training import TrainingSet, build_training_set
from flows.context import FlowContext, open_context
from flows.lease import Lease, hold
from flows.versions import fetch_version
from registry.candidate import Candidate, build_candidate
from registry.gate import HoldoutScores, judge, score_rows
from registry.version_folder import load_version, write_version_folder

ACTOR = "flow retrain"
BY_HAND = "by hand"
CHAMPION, CHALLENGER = "champion", "challenger"
# A repeated event names a moment of the recent past; so does a person who repeats a command.
_GATES = 200


@flow(name="retrain")
def retrain(use_case: str, as_of: str | None = None, reason: str = BY_HAND, decision_id: str | None = None) -> str:
    """Retrain one use case; at most one retrain of it runs at a time, and none is done twice.

    Args:
        use_case: its name.
        as_of: ISO 8601 moment whose knowledge to train on; now by default.
        reason: why, for people.
        decision_id: the ledger's id of the decision that called for it; recorded by hand if missing.

    Returns:
        One sentence: what came of it.
    """
    context = open_context()
    (declared,) = context.select(use_case)
    moment = context.moment(use_case, as_of)
    with hold(context.ledger, f"retrain/{use_case}") as lease:
        if lease is None:
            return _record(context, use_case, moment, "skipped", "a retrain is running", decision_id)
        if decision_id is None:
            by_hand = Decision("retrain", reason, {"trigger": BY_HAND})
            decision_id = str(context.ledger.record(use_case, "trigger", by_hand, actor=BY_HAND, as_of=moment))
        try:
            return run_steps(context, declared, moment, lease, reason=reason, decision_id=decision_id)
        except Exception as problem:  # whatever ends a retrain belongs into its history
            _record(context, use_case, moment, "failed", f"{type(problem).__name__}: {problem}", decision_id)
            raise


def run_steps(
    context: FlowContext, declared: UseCaseFile, moment: datetime, lease: Lease, *, reason: str, decision_id: str
) -> str:
    """Collect, check, train, judge, register, promote."""
    name = declared.use_case.name
    training = collect(context, declared, moment)
    known = {"fingerprint": training.fingerprint, "decision_id": decision_id}
    for gate in context.ledger.entries(name, kind="gate", limit=_GATES):
        if gate.as_of == moment and gate.evidence.get("fingerprint") == training.fingerprint and gate.version:
            promote(context, name, gate.version, Decision(gate.action, gate.reason), moment, lease)
            skipped = f"version {gate.version} was trained on exactly this data already"
            return _record(context, name, moment, "skipped", skipped, decision_id)
    candidate = train(declared, training)
    verdict = compare(context, declared, candidate)
    version = register(context, candidate, moment, lease, reason)
    recorded = Decision(verdict.action, verdict.reason, {**verdict.evidence, **known})
    context.ledger.record(name, "gate", recorded, actor=ACTOR, as_of=moment, version=version)
    promote(context, name, version, verdict, moment, lease)
    get_run_logger().info("%s version %s: %s: %s", name, version, verdict.action, verdict.reason)
    return f"version {version}: {verdict.action}: {verdict.reason}"


@task(cache_policy=NO_CACHE)
def collect(context: FlowContext, declared: UseCaseFile, moment: datetime) -> TrainingSet:
    """The labelled rows of the training window as known at the moment, and the data check on record."""
    use_case = declared.use_case
    since = moment - use_case.policy.training_window
    training = build_training_set(context.log, use_case, as_of=moment, since=since)
    dropped = dict(training.dropped)
    evidence = {"rows": len(training.y), "dropped": dropped, "since": since.isoformat(),
                "fingerprint": training.fingerprint, "base_rate": float(training.y.mean()) if len(training.y) else None}  # fmt: skip
    said = ", ".join(f"{name}: {rows}" for name, rows in dropped.items()) or "no check is declared"
    decision = Decision("pass", f"{len(training.y)} labelled rows; dropped {sum(dropped.values())} ({said})", evidence)
    context.ledger.record(use_case.name, "data_check", decision, actor=ACTOR, as_of=moment)
    return training


@task(cache_policy=NO_CACHE)
def train(declared: UseCaseFile, training: TrainingSet) -> Candidate:
    """Fit, export to ONNX, prove parity, measure on the newest rows."""
    return build_candidate(declared, training)


@task(cache_policy=NO_CACHE)
def compare(context: FlowContext, declared: UseCaseFile, candidate: Candidate) -> Decision:
    """Judge the candidate against the champion on the same rows."""
    name, holdout = declared.use_case.name, candidate.holdout
    champion, answers = context.registry.alias(name, CHAMPION), None
    if champion is not None:
        version = load_version(fetch_version(context, name, champion))
        scored = score_rows(
            version, holdout.requests, holdout.y, lambda own, rows: point_in_time_matrix(context.log, own, rows)
        )
        answers = HoldoutScores(scored.labels, scored.scores, champion)
    return judge(HoldoutScores(holdout.y, holdout.scores), answers, declared.use_case.policy)


@task(cache_policy=NO_CACHE)
def register(context: FlowContext, candidate: Candidate, moment: datetime, lease: Lease, reason: str) -> str:
    """Write the version's folder and register it in MLflow; returns its number."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "version"
        info = write_version_folder(candidate, folder, reason=reason, as_of=moment)
        lease.require()
        return context.registry.register(candidate.use_case_file.use_case.name, folder, info)


def promote(context: FlowContext, name: str, version: str, verdict: Decision, moment: datetime, lease: Lease) -> None:
    """Point the aliases where the verdict says, once: what a person moved since stays."""
    promoted = context.ledger.entries(name, kind="promotion", limit=_GATES)
    if any(entry.version == version for entry in promoted):
        return
    lease.require()
    context.registry.set_alias(name, CHALLENGER, version)
    if verdict.action == "promote":
        lease.require()
        context.registry.set_alias(name, CHAMPION, version)
        decision = Decision("promote", verdict.reason, {"alias": CHAMPION})
        context.ledger.record(name, "promotion", decision, actor=ACTOR, as_of=moment, version=version)


def _record(context: FlowContext, name: str, moment: datetime, action: str, why: str, decision_id: str | None) -> str:
    decision = Decision(action, why, {"decision_id": decision_id})
    context.ledger.record(name, "trigger", decision, actor=ACTOR, as_of=moment)
    get_run_logger().info("%s: %s: %s", name, action, why)
    return f"{action}: {why}"
