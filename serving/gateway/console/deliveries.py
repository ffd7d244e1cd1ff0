"""Retrains as deliveries: their stages and what they took, what retraining costs, and when the next one begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from core.ledger import Entry
from serving.gateway.console.flow_runs import FlowRun
from serving.gateway.console.state import MATERIALIZE, MONITOR, RETRAIN, FlowFacts, LedgerFacts, Links
from serving.gateway.console.timeline import BAD, GOOD, QUIET

_STATES: Mapping[str, tuple[str, str]] = {"done": ("✓", GOOD), "failed": ("✗", BAD), "skipped": ("–", QUIET)}
_LATELY = timedelta(days=30)
_JOBS = ((RETRAIN, "retrain"), (MONITOR, "look"), (MATERIALIZE, "batch features"))


@dataclass(frozen=True)
class Stage:
    """One stage of a delivery.

    Args:
        name: of the stage.
        symbol: stands for the word beside it.
        tone: likewise.
        status: done, failed or skipped.
        seconds: it took; None if it was not measured.
        says: what came of it.
        begin: where it begins, as a percentage of the whole.
        width: how much of the whole it took, likewise.
    """

    name: str
    symbol: str
    tone: str
    status: str
    seconds: float | None
    says: str
    begin: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One retrain.

    Args:
        id: of its entry.
        version: it made; empty if none.
        symbol: stands for the outcome beside its word.
        tone: likewise.
        outcome: done, failed or skipped.
        reason: one sentence.
        at: when it ended.
        seconds: all stages together.
        fit_s: of these, what fitting took; None if it was not recorded.
        stages: in their order.
        called_by: id of the decision that called for it; None if unknown.
        link: to its flow run; empty if unknown.
    """

    id: int
    version: str
    symbol: str
    tone: str
    outcome: str
    reason: str
    at: datetime
    seconds: float
    fit_s: float | None
    stages: tuple[Stage, ...]
    called_by: int | None
    link: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What retraining takes.

    Args:
        last_s: the newest retrain, in seconds.
        typical_s: the median of those that are known, in seconds.
        known: how many are.
        lately: retrains within the last 30 days.
        lately_s: what these took together, in seconds.
        what: which seconds these are.
    """

    last_s: float
    typical_s: float
    known: int
    lately: int
    lately_s: float
    what: str


@dataclass(frozen=True)
class Job:
    """Something that is to run.

    Args:
        name: for people.
        at: when; None if nothing is scheduled.
        link: to the deployment; empty if unknown.
    """

    name: str
    at: datetime | None
    link: str


def deliveries(entries: Sequence[Entry], links: Links) -> tuple[Delivery, ...]:
    """Retrains out of the ledger's records, the newest first."""
    return tuple(_delivery(entry, links) for entry in entries)


def cost(facts: LedgerFacts, now: datetime) -> Cost | None:
    """What retraining takes; None if no retrain is known.

    Of deliveries it is the time from their first stage to their last, else the gate's record of compute seconds.
    """
    measured = [(entry.recorded_at, _seconds(entry)) for entry in facts.deliveries if entry.action != "skipped"]
    what = "all stages of a delivery, data checks to watch"
    if not measured:
        what = "fitting, conversion and judging, in compute seconds"
        found = ((gate.recorded_at, gate.evidence.get("compute_s")) for gate in facts.gates)
        measured = [(at, float(seconds)) for at, seconds in found if seconds is not None]
    if not measured:
        return None
    lately = [seconds for at, seconds in measured if now - at <= _LATELY]
    return Cost(
        last_s=measured[0][1], typical_s=median(seconds for _, seconds in measured), known=len(measured),
        lately=len(lately), lately_s=sum(lately), what=what,
    )  # fmt: skip


def jobs(use_case: str, flows: FlowFacts, links: Links) -> tuple[Job, ...]:
    """When each flow begins next for a use case."""
    return tuple(_job(name, use_case, flows.scheduled.get(deployment, ()), links) for deployment, name in _JOBS)


def running_retrain(use_case: str, flows: FlowFacts) -> FlowRun | None:
    """The retrain of a use case that runs now; None if none does."""
    mine = (run for run in flows.retrains if run.use_case in (use_case, "all"))
    return next((run for run in mine if not run.is_final), None)


def _job(name: str, use_case: str, runs: Sequence[FlowRun], links: Links) -> Job:
    mine = [run for run in runs if run.use_case in (use_case, "all", "")]
    if not mine:
        return Job(name, None, links.deployment(runs[0].deployment) if runs else "")
    return Job(name, mine[0].expected_at, links.deployment(mine[0].deployment))


def _delivery(entry: Entry, links: Links) -> Delivery:
    symbol, tone = _STATES.get(entry.action, ("•", QUIET))
    run, called = entry.evidence.get("flow_run_id"), str(entry.evidence.get("decision_id") or "")
    return Delivery(
        id=entry.id, version=entry.version or "", symbol=symbol, tone=tone, outcome=entry.action, reason=entry.reason,
        at=entry.recorded_at, seconds=_seconds(entry), fit_s=entry.evidence.get("fit_s"), stages=tuple(_stages(entry)),
        called_by=int(called) if called.isdigit() else None, link=links.flow_run(str(run)) if run else "",
    )  # fmt: skip


def _stages(entry: Entry) -> Iterator[Stage]:
    whole, begin = _seconds(entry), 0.0
    for each in _recorded(entry):
        symbol, tone = _STATES.get(each.get("status", ""), ("•", QUIET))
        took = each.get("seconds")
        width = 100 * float(took or 0.0) / whole if whole else 0.0
        yield Stage(
            str(each.get("name", "")).replace("_", " "), symbol, tone, str(each.get("status", "")), took,
            str(each.get("says") or ""), round(begin, 2), round(width, 2),
        )  # fmt: skip
        begin += width


def _seconds(entry: Entry) -> float:
    return sum(float(each.get("seconds") or 0.0) for each in _recorded(entry))


def _recorded(entry: Entry) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = entry.evidence.get("stages") or ()
    return found
