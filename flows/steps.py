"""The stages of a retrain as Prefect tasks; the flow in `flows.retrain` runs them in order."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.decision import Decision
from core.discovery import UseCaseFile
from core.ledger import Entry
from core.use_case import UseCase
from features.offline.point_in_time import point_in_time_matrix
from features.offline.training import TrainingSet, build_training_set
from flows.context import FlowContext
from flows.lease import Lease
from flows.references import reference_files
from flows.rollouts import begin_rollout, starts_at_once
from flows.stages import DONE, KIND, Outcome
from flows.staging import stage, staged_said
from flows.versions import champion as champion_of
from flows.versions import fetch_version
from registry import selection
from registry.artifact_scan import require_clean
from registry.candidate import Candidate, proven, require_rows
from registry.comparison import Champion, build_candidates, pick
from registry.digests import listed_files
from registry.estimator_store import EstimatorStore
from registry.gate import with_evidence
from registry.model_card import Predecessor, model_card
from registry.model_tests import Subject, TestReport, run_model_tests
from registry.plots import draw_drift
from registry.scorer import OnnxScorer
from registry.verdict_page import verdict_page
from registry.version_folder import load_version, write_version_folder
from registry.versions import VersionInfo

ACTOR = "flow retrain"
CHAMPION, CHALLENGER = "champion", "challenger"
# A repeated event names a moment of the recent past; so does a person who repeats a command.
_GATES = 200


@dataclass(frozen=True)
class Chosen:
    """The best of what was trained, compared and not judged for good yet.

    Args:
        candidate: itself.
        verdict: what its comparison with the champion says so far.
        champion: None if there is none.
        fit_s: seconds that fitting took, of all candidates.
        compute_s: that with conversion.
    """

    candidate: Candidate
    verdict: Decision
    champion: Champion | None
    fit_s: float
    compute_s: float


@dataclass(frozen=True)
class Written:
    """A version's folder.

    Args:
        folder: where it is.
        info: what it is to be registered with.
        candidate: proven to answer alike.
    """

    folder: Path
    info: VersionInfo
    candidate: Candidate


@task(name="data_checks", cache_policy=NO_CACHE)
def data_checks(context: FlowContext, declared: UseCaseFile, moment: datetime) -> Outcome[TrainingSet]:
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
    require_rows(use_case, len(training.y))
    return Outcome(training, decision.reason)


@task(name="train", cache_policy=NO_CACHE)
def train(context: FlowContext, declared: UseCaseFile, training: TrainingSet, moment: datetime) -> Outcome[Chosen]:
    """Fit and convert on each selection, compare with the champion on the newest rows, and keep the best."""
    use_case = declared.use_case
    candidates = build_candidates(
        declared, training, moment, lambda: _champions_estimator(context, declared), prove=False
    )
    champion, old_rows = None, None
    version = champion_of(context, use_case.name)
    if version is not None:
        champion = Champion(version, load_version(fetch_version(context, use_case.name, version)))
        old_rows = recall(context, declared, moment)
    candidate, verdict = pick(
        candidates, champion, old_rows, use_case.policy, lambda own, rows: point_in_time_matrix(context.log, own, rows)
    )
    fit_s = sum(each.timings["fit_s"] for each in candidates)
    compute_s = sum(sum(each.timings.values()) for each in candidates)
    profile = candidate.profile
    said = (
        f"{candidate.params['estimator']} on {profile['training']['rows']:,} rows, {profile['selection']['name']}; "
        f"log-loss {profile['log_loss']:.4f} on the {profile['rows']:,} newest"
    )
    several = f", the best of {len(candidates)} selections" if len(candidates) > 1 else ""
    return Outcome(Chosen(candidate, verdict, champion, fit_s, compute_s), f"{said}{several}; fitted in {fit_s:.1f} s")


def recall(context: FlowContext, declared: UseCaseFile, moment: datetime) -> TrainingSet | None:
    """As many labelled rows as the holdout's, from just before the first that is trained on; None if all are."""
    use_case = declared.use_case
    span = selection.before(use_case.policy, moment)
    if span is None:
        return None
    return build_training_set(context.log, use_case, as_of=span[1], since=span[0]).newest(use_case.policy.holdout_rows)


@task(name="model_tests", cache_policy=NO_CACHE)
def model_tests(candidate: Candidate) -> Outcome[TestReport]:
    """Run what the use case expects of every version; what fails a required test is rejected by the gate."""
    holdout, reread = candidate.holdout, _written_and_read(candidate.onnx)
    subject = Subject(
        OnnxScorer(candidate.onnx).score, OnnxScorer(reread).score, holdout.X, holdout.y, holdout.requests
    )  # fmt: skip
    report = run_model_tests(candidate.use_case_file.use_case, subject)
    return Outcome(report, report.said)


@task(name="parity", cache_policy=NO_CACHE)
def parity(
    context: FlowContext, candidate: Candidate, training: TrainingSet, folder: Path, *, moment: datetime, reason: str
) -> Outcome[Written]:
    """Write the version's folder, and prove that its graph answers as the estimator does."""
    done = proven(candidate)
    extras = reference_files(done, training, context.log)
    info = write_version_folder(done, folder, reason=reason, as_of=moment, extras=extras)
    said = f"native and ONNX scores differ by {done.profile['parity_difference']:.1e} on {len(done.holdout.y):,} rows"
    return Outcome(Written(folder, info, done), said)


@task(name="scan", cache_policy=NO_CACHE)
def scan(use_case: str, written: Written) -> Outcome[None]:
    """Refuse the version's folder if anything but a version is in it."""
    found = require_clean(written.folder, f"The new version of {use_case}")
    return Outcome(None, f"{found.said}; digest {written.info.digest[:12]}")


@task(name="staging", cache_policy=NO_CACHE)
def staging(context: FlowContext, use_case: UseCase, written: Written, verdict: Decision) -> Outcome[Decision]:
    """Ask a winner its recorded requests in the model host, beside the champion, where no client reaches it."""
    staged = stage(context, use_case, written.folder, verdict)
    said, is_skipped = staged_said(use_case, verdict, staged)
    return Outcome(staged, said, is_skipped)


@task(name="gate", cache_policy=NO_CACHE)
def gate(verdict: Decision, report: TestReport, known: Mapping[str, Any]) -> Outcome[Decision]:
    """The verdict for good, from everything that was measured."""
    judged = with_evidence(verdict, model_tests=report.as_json())
    final = Decision(judged.action, judged.reason, {**judged.evidence, **known})
    return Outcome(final, f"{final.action}: {final.reason}")


@task(name="register", cache_policy=NO_CACHE)
def register(
    context: FlowContext, written: Written, verdict: Decision, chosen: Chosen, *, moment: datetime, lease: Lease
) -> Outcome[str]:
    """Register the version in MLflow with its card and its pictures, and put the gate's verdict on record.

    Returns:
        The version's number.
    """
    name, folder = written.candidate.use_case_file.use_case.name, written.folder
    before = _predecessor(context, name, chosen.champion)
    title = f"trained as of {moment:%Y-%m-%d %H:%M} UTC"
    page = verdict_page(name, verdict, title=title)
    (folder / "plots" / "gate.html").write_text(page, encoding="utf-8")
    if chosen.champion is not None:
        reference = fetch_version(context, name, chosen.champion.version) / "reference.parquet"
        draw_drift(reference, written.candidate, folder / "plots" / "drift.png")
    info = written.info.with_description(model_card(
        written.candidate.use_case_file.use_case, written.candidate.profile, written.info, verdict=verdict,
        before=before, digests=listed_files(folder), plots=[path.name for path in (folder / "plots").iterdir()],
    ))  # fmt: skip
    lease.require()
    version = context.registry.register(name, folder, info)
    context.ledger.record(name, "gate", verdict, actor=ACTOR, as_of=moment, version=version)
    reports = context.settings.home / "reports" / name
    reports.mkdir(parents=True, exist_ok=True)
    page = page.replace(title, f"version {version}", 1)
    (reports / f"{moment:%Y-%m-%dT%H%M%S}-gate-{version}.html").write_text(page, encoding="utf-8")
    if written.candidate.profile["selection"]["warm_start"]:
        _estimators(context).keep(name, info.digest, written.candidate.estimator)
    return Outcome(version, f"version {version}, digest {info.digest[:12]}")


@task(name="rollout", cache_policy=NO_CACHE)
def rollout(
    context: FlowContext, use_case: UseCase, version: str, verdict: Decision, *, moment: datetime, lease: Lease
) -> Outcome[bool]:
    """Let a version that the gate promotes begin as canary or shadow, if the use case wants that.

    Returns:
        Whether it has to pass that first.
    """
    if verdict.action != "promote":
        return Outcome(False, f"the gate says {verdict.action}", skipped=True)
    if starts_at_once(use_case, verdict):
        why = "the first version" if "champion" not in verdict.evidence else "the use case starts versions at once"
        return Outcome(False, why, skipped=True)
    return Outcome(True, begin_rollout(context, use_case, version, verdict, moment, lease))


@task(name="promote", cache_policy=NO_CACHE)
def promotion(
    context: FlowContext, use_case: UseCase, version: str, verdict: Decision, *, moment: datetime, lease: Lease,
    waits: bool = False,
) -> Outcome[bool]:  # fmt: skip
    """Make the version champion if the gate says so and nothing stands before it.

    Returns:
        Whether it is champion now.
    """
    name = use_case.name
    if waits:
        lease.require()
        context.registry.set_alias(name, CHALLENGER, version)
        period = use_case.serving.start_period
        return Outcome(False, f"waits at least {period}: the monitor promotes it when it has passed", skipped=True)
    promote(context, name, version, verdict, moment, lease)
    is_champion = context.registry.alias(name, CHAMPION) == version
    if is_champion:
        return Outcome(True, f"version {version} is the champion; the deployer follows")
    stays = "it stays challenger" if verdict.action != "promote" else "somebody moved the champion meanwhile: it stays"
    return Outcome(False, stays, skipped=True)


@task(name="watch", cache_policy=NO_CACHE)
def watch(use_case: UseCase, version: str, is_champion: bool, waits: bool) -> Outcome[None]:
    """Say who looks after the version from here on, and what for."""
    if not (is_champion or waits):
        return Outcome(None, "nothing new answers clients", skipped=True)
    bake, after = use_case.serving.bake, use_case.policy.aftermath
    return Outcome(
        None,
        f"the deployer takes {version} back within its bake of {bake.period} for errors or latency, from "
        f"{bake.min_requests} requests on; the monitor looks back at it once labels come: from {after.min_rows} on it "
        f"is taken back when it is worse, after {after.period} it is confirmed",
    )


def promote(context: FlowContext, name: str, version: str, verdict: Decision, moment: datetime, lease: Lease) -> None:
    """Point the aliases where the verdict says, once: what a person moved since stays."""
    promoted = context.ledger.entries(name, kind="promotion", limit=_GATES)
    if any(entry.version == version for entry in promoted):
        return
    lease.require()
    context.registry.set_alias(name, CHALLENGER, version)
    if verdict.action == "promote":
        lease.require()
        now, judged = champion_of(context, name), verdict.evidence.get("champion", {}).get("version")
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
    for entry in context.ledger.entries(name, kind="gate", limit=_GATES):
        if entry.as_of == moment and entry.evidence.get("fingerprint") == fingerprint and entry.version:
            return entry
    return None


def delivered_before(context: FlowContext, name: str, decision_id: str) -> bool:
    """Whether what a decision called for was delivered already: events and dispatches may come twice."""
    done = context.ledger.entries(name, kind=KIND, actions=(DONE,), limit=_GATES)
    return any(entry.evidence.get("decision_id") == decision_id for entry in done)


def _predecessor(context: FlowContext, name: str, champion: Champion | None) -> Predecessor | None:
    if champion is None:
        return None
    known = context.registry.info(name, champion.version)
    return Predecessor(
        champion.version, known.as_of, known.params, champion.loaded.profile, champion.loaded.spec, known.git_commit
    )


def _written_and_read(onnx: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(onnx)
        return path.read_bytes()


def _champions_estimator(context: FlowContext, declared: UseCaseFile) -> Any:
    """The champion as it was fitted; None if there is none, or it was not kept."""
    name = declared.use_case.name
    champion = champion_of(context, name)
    return champion and _estimators(context).load(name, context.registry.info(name, champion).digest)


def _estimators(context: FlowContext) -> EstimatorStore:
    return EstimatorStore(context.settings.home / "estimators")
