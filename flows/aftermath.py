"""Looking back at a promotion once labels come, and taking it back when it turns out worse."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import get_run_logger

from core.decision import Decision
from core.ledger import Deployment, Entry
from core.use_case import UseCase
from features.offline.point_in_time import point_in_time_matrix
from flows.context import FlowContext
from flows.lease import Lease, hold
from flows.versions import fetch_version
from monitoring.aftermath import ROLLBACK, VERDICTS, Promotion, compare_versions, judge_aftermath, sample_rows
from monitoring.performance import join_labels
from registry.version_folder import load_version
from serving.permission import held_version
from serving.standing import KIND as DEPLOYMENT

ACTOR = "flow monitor"
KIND = "aftermath"
CHAMPION = "champion"
_ENTRIES = 5000


def look_back(context: FlowContext, use_case: UseCase, moment: datetime) -> Decision | None:
    """Judge the version that answers against the one before it, on what it answered since; record and act.

    A version is judged when it answers for the first time: one that was put back, by whomever, is left alone.

    Returns:
        What was decided; None if there is nothing to judge, or another run is at it.
    """
    name = use_case.name
    with hold(context.ledger, f"{KIND}/{name}") as lease:
        deployed = unproven(context, name)
        if lease is None or deployed is None or deployed.previous is None:
            return None
        verdict = _verdict(context, deployed)
        if verdict is None:
            decision = _judge(context, use_case, deployed, moment)
            known = {**decision.evidence, "generation": deployed.generation}
            recorded = Decision(decision.action, decision.reason, known)
            entry_id = context.ledger.record(
                name, KIND, recorded, actor=ACTOR, as_of=moment, version=deployed.version
            )  # fmt: skip
            get_run_logger().info("%s: aftermath: %s: %s", name, decision.action, decision.reason)
        elif verdict.action == ROLLBACK and not _was_carried_out(context, verdict):  # an earlier run was cut off
            decision, entry_id = Decision(verdict.action, verdict.reason), verdict.id
        else:
            return None
        if decision.action == ROLLBACK:
            _take_back(context, deployed, decision.reason, entry_id, moment, lease)
        return decision


def unproven(context: FlowContext, name: str) -> Deployment | None:
    """The deployment that answers, if its version answers for the first time and the alias is still on it.

    Or the alias is on a version that is kept waiting.
    """
    deployments = context.ledger.deployments(name)
    if not deployments or any(earlier.version == deployments[0].version for earlier in deployments[1:]):
        return None
    live = deployments[0]
    stays = (live.version, held_version(context.ledger, name))
    moved_on = _verdict(context, live) is None and context.registry.alias(name, CHAMPION) not in stays
    return None if moved_on else live


def _verdict(context: FlowContext, deployed: Deployment) -> Entry | None:
    found = context.ledger.entries(deployed.use_case, kind=KIND, actions=VERDICTS, limit=_ENTRIES)
    return next((entry for entry in found if entry.evidence.get("generation") == deployed.generation), None)


def _was_carried_out(context: FlowContext, verdict: Entry) -> bool:
    moves = context.ledger.entries(verdict.use_case, kind="promotion", limit=_ENTRIES)
    return any(entry.evidence.get("decision_id") == verdict.id for entry in moves)


def _judge(context: FlowContext, use_case: UseCase, deployed: Deployment, moment: datetime) -> Decision:
    name, policy = use_case.name, use_case.policy.aftermath
    promotion = Promotion(deployed.version, deployed.previous or "", _promoted_at(context, deployed))
    since = max(promotion.promoted_at, moment - policy.period - use_case.label.horizon)
    answered = context.log.predictions(name, since=since, until=moment)
    if len(answered):
        answered = answered.loc[answered["version"] == deployed.version]
    due = sample_rows(join_labels(
        answered, context.log.labels(name, since=since, known_by=moment), use_case.label.horizon, moment
    ))  # fmt: skip
    labelled = due.loc[due["label"].notna()]
    scores = _previous_scores(context, deployed, labelled) if len(labelled) else np.zeros(0)
    facts = compare_versions(promotion, due, scores.astype(np.float64), as_of=moment, policy=policy)
    return judge_aftermath(facts, policy)


def _promoted_at(context: FlowContext, deployed: Deployment) -> datetime:
    """When the version was made champion; where nobody recorded it (a click in MLflow), when it began to answer."""
    promoted = context.ledger.entries(deployed.use_case, kind="promotion", actions=("promote",), limit=_ENTRIES)
    return next((entry.as_of for entry in promoted if entry.version == deployed.version), deployed.deployed_at)


def _previous_scores(
    context: FlowContext, deployed: Deployment, rows: pd.DataFrame
) -> npt.NDArray[np.float32]:  # fmt: skip
    """What the version before answers to rows that this one answered, with its own features."""
    name, previous = deployed.use_case, deployed.previous or ""
    version = load_version(fetch_version(context, name, previous))
    spec = json.loads((fetch_version(context, name, deployed.version) / "feature_spec.json").read_bytes())
    own = version.use_case_file.use_case
    logged = [f"f__{column}" for column in own.features.columns]
    if version.spec == spec and set(logged) <= set(rows.columns):  # what was served then is what it would have read
        return version.scorer.score(rows[logged].to_numpy(dtype=np.float32))
    fields = [f.name for f in own.request_fields if f.name not in rows]
    asked = rows.reindex(columns=[*rows.columns, *fields])
    return version.scorer.score(point_in_time_matrix(context.log, own, asked))


def _take_back(
    context: FlowContext, deployed: Deployment, reason: str, decision_id: int, moment: datetime, lease: Lease
) -> None:
    """Point the alias at the version before, unless somebody moved it meanwhile; on record either way."""
    name, previous = deployed.use_case, deployed.previous
    lease.require()
    now = context.registry.alias(name, CHAMPION)
    known = {"alias": CHAMPION, "from": deployed.version, "decision_id": decision_id}
    if now is not None and now == held_version(context.ledger, name):  # a person put it there, and it does not answer
        taken = Decision("rollback", reason, {"role": CHAMPION, "generation": deployed.generation, **known})
        context.ledger.record(name, DEPLOYMENT, taken, actor=ACTOR, as_of=moment, version=deployed.version)
        context.ledger.record(
            name, "promotion", Decision("rollback", reason, known), actor=ACTOR, as_of=moment, version=previous
        )
        return
    if now not in (deployed.version, previous):
        moved = f"the champion became {now or 'none'} while {deployed.version} was judged: it stays where it was put"
        context.ledger.record(
            name, "promotion", Decision("keep", moved, known), actor=ACTOR, as_of=moment, version=deployed.version
        )
        return
    context.registry.set_alias(name, CHAMPION, previous)
    taken = Decision("rollback", reason, known)
    context.ledger.record(name, "promotion", taken, actor=ACTOR, as_of=moment, version=previous)
    get_run_logger().error("%s: %s", name, reason)
