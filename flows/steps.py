"""The steps of a retrain; the flow in `flows.retrain` runs them in order."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.decision import Decision
from core.discovery import UseCaseFile
from core.ledger import Entry
from features.offline.point_in_time import point_in_time_matrix
from features.offline.training import TrainingSet, build_training_set
from flows.context import FlowContext
from flows.lease import Lease
from flows.references import reference_files
from flows.versions import fetch_version
from registry.candidate import Candidate, build_candidate
from registry.gate import HoldoutScores, judge, score_rows
from registry.version_folder import load_version, write_version_folder

ACTOR = "flow retrain"
CHAMPION, CHALLENGER = "champion", "challenger"
# A repeated event names a moment of the recent past; so does a person who repeats a command.
_GATES = 200


@task(cache_policy=NO_CACHE)
def collect(context: FlowContext, declared: UseCaseFile, moment: datetime) -> TrainingSet:
    """The labelled rows of the training window as known at the moment, and the data check on record."""
    use_case = declared.use_case
    since = moment - use_case.policy.training_window
    training = build_training_set(context.log, use_case, as_of=moment, since=since)
    dropped = dict(training.dropped)
    evidence = {
        "rows": len(training.y),
        "dropped": dropped,
        "since": since.isoformat(),
        "fingerprint": training.fingerprint,
        "base_rate": float(training.y.mean()) if len(training.y) else None,
    }
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
def register(
    context: FlowContext, candidate: Candidate, training: TrainingSet, moment: datetime, lease: Lease, reason: str
) -> str:
    """Write the version's folder and register it in MLflow; returns its number."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "version"
        extras = reference_files(candidate, training)
        info = write_version_folder(candidate, folder, reason=reason, as_of=moment, extras=extras)
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
        now, judged = context.registry.alias(name, CHAMPION), verdict.evidence.get("champion", {}).get("version")
        if now != judged and "challenger" in verdict.evidence:
            moved = (
                f"the champion became {now} while this was judged against {judged}: move the alias by hand, or retrain"
            )
            context.ledger.record(
                name, "promotion", Decision("keep", moved), actor=ACTOR, as_of=moment, version=version
            )
            return
        context.registry.set_alias(name, CHAMPION, version)
        decision = Decision("promote", verdict.reason, {"alias": CHAMPION})
        context.ledger.record(name, "promotion", decision, actor=ACTOR, as_of=moment, version=version)


def trained_before(context: FlowContext, name: str, moment: datetime, fingerprint: str) -> Entry | None:
    """The gate's verdict on a version trained for the same moment on the same data, if there is one."""
    for gate in context.ledger.entries(name, kind="gate", limit=_GATES):
        if gate.as_of == moment and gate.evidence.get("fingerprint") == fingerprint and gate.version:
            return gate
    return None
