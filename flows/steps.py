"""The steps of a retrain; the flow in `flows.retrain` runs them in order."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.decision import Decision
from core.discovery import UseCaseFile
from core.ledger import Entry
from features.offline.point_in_time import point_in_time_matrix
from features.offline.training import TrainingSet, build_training_set
from flows.context import FlowContext
from flows.lease import Lease
from flows.staging import stage
from flows.versions import fetch_version
from registry import selection
from registry.candidate import Candidate
from registry.comparison import Champion, build_candidates, pick
from registry.estimator_store import EstimatorStore
from registry.verdict_page import verdict_page
from registry.version_folder import load_version, write_version_folder

ACTOR = "flow retrain"
CHAMPION, CHALLENGER = "champion", "challenger"
# A repeated event names a moment of the recent past; so does a person who repeats a command.
_GATES = 200


@task(cache_policy=NO_CACHE)
def collect(context: FlowContext, declared: UseCaseFile, moment: datetime) -> TrainingSet:
    """The labelled rows that any of the selections trains on, as known at the moment, and the data check on record."""
    use_case = declared.use_case
    since = selection.since(use_case.policy.trains_on, moment)
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
def train(context: FlowContext, declared: UseCaseFile, training: TrainingSet, moment: datetime) -> list[Candidate]:
    """For each selection: fit, export to ONNX, prove parity, measure on the newest rows."""
    return build_candidates(declared, training, moment, lambda: _champions_estimator(context, declared))


@task(cache_policy=NO_CACHE)
def compare(
    context: FlowContext, declared: UseCaseFile, candidates: list[Candidate], moment: datetime
) -> tuple[Candidate, Decision]:
    """Judge the candidates against the champion on the same rows; the best of them, and its verdict."""
    use_case, champion, old_rows = declared.use_case, None, None
    version = context.registry.alias(use_case.name, CHAMPION)
    if version is not None:
        champion = Champion(version, load_version(fetch_version(context, use_case.name, version)))
        old_rows = recall(context, declared, moment)
    return pick(
        candidates, champion, old_rows, use_case.policy, lambda own, rows: point_in_time_matrix(context.log, own, rows)
    )


def recall(context: FlowContext, declared: UseCaseFile, moment: datetime) -> TrainingSet | None:
    """As many labelled rows as the holdout's, from just before the first that is trained on; None if all are."""
    use_case = declared.use_case
    span = selection.before(use_case.policy, moment)
    if span is None:
        return None
    return build_training_set(context.log, use_case, as_of=span[1], since=span[0]).newest(use_case.policy.holdout_rows)


@task(cache_policy=NO_CACHE)
def register(
    context: FlowContext,
    candidate: Candidate,
    verdict: Decision,
    extras: Mapping[str, bytes],
    *,
    moment: datetime,
    lease: Lease,
    reason: str,
) -> tuple[str, Decision]:
    """Write the version's folder, stage a winner, draw the verdict, and register it in MLflow.

    Args:
        context: what the flow works with.
        candidate: what was trained.
        verdict: the gate's.
        extras: further files of the version's folder, by name.
        moment: the moment it was trained as of.
        lease: of the retrain.
        reason: why it was trained, for people.

    Returns:
        The version's number, and the verdict, which staging may have changed.
    """
    use_case = candidate.use_case_file.use_case
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "version"
        info = write_version_folder(candidate, folder, reason=reason, as_of=moment, extras=extras)
        verdict = stage(context, use_case, folder, verdict)
        page = verdict_page(use_case.name, verdict, title=f"trained as of {moment:%Y-%m-%d %H:%M} UTC")
        (folder / "plots" / "gate.html").write_text(page, encoding="utf-8")
        lease.require()
        version = context.registry.register(use_case.name, folder, info)
    reports = context.settings.home / "reports" / use_case.name
    reports.mkdir(parents=True, exist_ok=True)
    page = verdict_page(use_case.name, verdict, title=f"version {version}")
    (reports / f"{moment:%Y-%m-%dT%H%M%S}-gate-{version}.html").write_text(page, encoding="utf-8")
    if candidate.profile["selection"]["warm_start"]:
        _estimators(context).keep(use_case.name, info.digest, candidate.estimator)
    return version, verdict


def _champions_estimator(context: FlowContext, declared: UseCaseFile) -> Any:
    """The champion as it was fitted; None if there is none, or it was not kept."""
    name = declared.use_case.name
    champion = context.registry.alias(name, CHAMPION)
    return champion and _estimators(context).load(name, context.registry.info(name, champion).digest)


def _estimators(context: FlowContext) -> EstimatorStore:
    return EstimatorStore(context.settings.home / "estimators")


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
