"""Versions that begin as canary or shadow: begun by a retrain, promoted or kept by the look that finds them ready."""

from __future__ import annotations

from datetime import datetime

from prefect import get_run_logger

from core.clock import SystemClock
from core.decision import Decision
from core.ledger import Entry
from core.use_case import UseCase
from features.streams import ANSWER
from features.streams import SHADOW as SHADOW_ROLE
from flows.context import FlowContext
from flows.lease import Lease, hold
from monitoring.performance import join_labels
from monitoring.readout import Arm, read_out
from serving.starting import KEEP, WAIT, Asked, Begun, judge_start
from serving.wanted import CANARY, CHAMPION, PERCENT_TAGS, SHADOW

ACTOR = "flow retrain"
KIND = "promotion"
_ENTRIES = 500


def starts_at_once(use_case: UseCase, verdict: Decision) -> bool:
    """Whether nothing stands between the gate's verdict and all clients; there is nothing beside a first version."""
    return use_case.serving.start == "at_once" or "champion" not in verdict.evidence


def begin_rollout(
    context: FlowContext, use_case: UseCase, version: str, verdict: Decision, moment: datetime, lease: Lease
) -> str:
    """Give the version its role, and put it on record; once, however often it is called.

    Returns:
        What it gets, as a clause.
    """
    name, serving = use_case.name, use_case.serving
    role, percent = serving.start, serving.start_percent
    said = f"version {version} is {role} with {percent:g} % for at least {serving.start_period}"
    if any(entry.version == version for entry in context.ledger.entries(name, kind=KIND, limit=_ENTRIES)):
        return f"{said}, as it was begun before"
    lease.require()
    context.registry.set_alias(name, role, version, {PERCENT_TAGS[role]: f"{percent:g}"})
    known = {
        "alias": role, "percent": percent, "period_s": serving.start_period.total_seconds(),
        "decision_id": verdict.evidence.get("decision_id"), "champion": verdict.evidence["champion"]["version"],
    }  # fmt: skip
    context.ledger.record(name, KIND, Decision(role, said, known), actor=ACTOR, as_of=moment, version=version)
    return said


def finish_rollout(context: FlowContext, use_case: UseCase, moment: datetime) -> Decision | None:
    """Promote the version that began as canary or shadow if it is ready, or leave it challenger if it did worse.

    May be killed anywhere: the ledger is written last, and the next call does again what was not written.

    Returns:
        What was decided; None if there is nothing to decide, it has to wait, or another run is at it.
    """
    name = use_case.name
    if pending(context.ledger.entries(name, kind=KIND, limit=_ENTRIES)) is None:
        return None
    with hold(context.ledger, f"rollout/{name}") as lease:
        begun = pending(context.ledger.entries(name, kind=KIND, limit=_ENTRIES))
        if lease is None or begun is None or begun.version is None:
            return None
        decision = _judge(context, use_case, begun)
        if decision.action == WAIT:
            get_run_logger().info("%s: %s %s waits: %s", name, begun.action, begun.version, decision.reason)
            return None
        lease.require()
        role, champion = begun.action, context.registry.alias(name, CHAMPION)
        if decision.action != KEEP and champion not in (begun.evidence.get("champion"), begun.version):
            decision = Decision(KEEP, f"the champion became {champion} meanwhile: move the alias by hand, or retrain")
        if decision.action != KEEP:
            context.registry.set_alias(name, CHAMPION, begun.version)
        if context.registry.alias(name, role) == begun.version:
            context.registry.set_alias(name, role, None)
        known = {**decision.evidence, "alias": CHAMPION, "role": role, "began": begun.id}
        recorded = Decision(decision.action, decision.reason, known)
        context.ledger.record(name, KIND, recorded, actor=ACTOR, as_of=moment, version=begun.version)
        get_run_logger().info("%s version %s: %s: %s", name, begun.version, decision.action, decision.reason)
        return decision


def pending(entries: list[Entry]) -> Entry | None:
    """The rollout that a retrain began and nobody ended, if it is the newest; entries come newest first."""
    begun = next((e for e in entries if e.actor == ACTOR and e.action in (CANARY, SHADOW)), None)
    if begun is None or any(e.id > begun.id and e.version == begun.version for e in entries):
        return None
    return begun


def _judge(context: FlowContext, use_case: UseCase, begun: Entry) -> Decision:
    name, version = use_case.name, begun.version or ""
    told = [
        (entry.action, entry.reason, entry.recorded_at)
        for entry in context.ledger.entries(name, kind="deployment", limit=_ENTRIES)
        if entry.version == version and entry.id > begun.id
        and entry.evidence.get("role") in (begun.action, None)
    ]  # fmt: skip
    is_named = context.registry.alias(name, begun.action) == version
    asked = _asked(context, use_case, begun) if begun.action == SHADOW and is_named else None
    known = Begun(begun.action, float(begun.evidence["period_s"]), is_named, use_case.serving.bake.min_requests)
    return judge_start(known, told, asked, SystemClock().now())


def _asked(context: FlowContext, use_case: UseCase, begun: Entry) -> Asked:
    """What a shadow answered beside the champion, on the same requests."""
    name, champion = use_case.name, str(begun.evidence.get("champion"))
    rows = context.log.predictions(name, since=begun.as_of, roles=(ANSWER, SHADOW_ROLE))
    if rows.empty:
        return Asked(0)
    labels = context.log.labels(name, since=begun.as_of)
    now = max([rows["known_at"].max(), *([labels["known_at"].max()] if len(labels) else [])]).to_pydatetime()
    rows = rows.assign(label=join_labels(rows, labels, use_case.label.horizon, now)["label"], unit=range(len(rows)))
    shadow = (rows["role"] == SHADOW_ROLE) & (rows["version"] == begun.version)
    answered = (rows["role"] == ANSWER) & (rows["version"] == champion)
    readout = read_out([Arm(CHAMPION, champion, rows[answered]), Arm(SHADOW, str(begun.version), rows[shadow])])
    worse = readout.differences.get(SHADOW, {}).get("log_loss")
    return Asked(int(shadow.sum()), None if worse is None else (worse.low, worse.value, worse.high))
