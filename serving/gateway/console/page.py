"""The page of a use case, and its line in the overview, as pure functions of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from serving.gateway.console.deliveries import Cost, Delivery, Job, cost, deliveries, jobs, running_retrain
from serving.gateway.console.flow_runs import FlowRun
from serving.gateway.console.latency import Quantiles
from serving.gateway.console.quality import Drift, Labels, Performance, drift, labels, performance
from serving.gateway.console.running import (
    Badge,
    Features,
    Live,
    Notice,
    VersionRow,
    badge,
    features_of,
    live,
    notices,
    traffic,
)
from serving.gateway.console.state import LedgerFacts, ReportFile, State
from serving.gateway.console.timeline import Row, rows

_DELIVERIES, _NEWEST, _REPORTS = 5, 12, 8
_STAGES = ("total", "queue", "call", "features", "model", "log")


@dataclass(frozen=True)
class Away:
    """A part of the page that cannot be shown."""

    what: str
    problem: str
    means: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything the template shows of a use case.

    Args:
        name: of the use case.
        description: its question.
        label: name of its label.
        now: the moment of the page.
        is_replay: whether history is replayed.
        badge: how it stands.
        away: what does not answer.
        live: the version that answers; None if none ever did.
        notices: what needs a person.
        versions: traffic by version.
        canary: version and percentage, or None.
        shadow: likewise.
        stages: latency by stage, as clients of this gateway see it.
        performance: None if it was not measured yet.
        drift: likewise.
        labels: likewise.
        features: None if Redis does not say.
        deliveries: the newest first.
        retraining: the retrain that runs now; None if none does.
        cost: of retraining; None if no retrain is known.
        jobs: what runs next; empty if Prefect does not say.
        timeline: the newest decisions, without routine.
        looks: how many looks were recorded lately.
        reports: pages on disk.
        champion_run: id of the run that made the live version; empty if unknown.
        aliases: as MLflow has them, alias and version.
        state: what all of it comes from.
    """

    name: str
    description: str
    label: str
    now: datetime
    is_replay: bool
    badge: Badge
    away: tuple[Away, ...]
    live: Live | None
    notices: tuple[Notice, ...]
    versions: tuple[VersionRow, ...]
    stages: tuple[tuple[str, Quantiles], ...]
    performance: Performance | None
    drift: Drift | None
    labels: Labels | None
    features: Features | None
    deliveries: tuple[Delivery, ...]
    retraining: FlowRun | None
    cost: Cost | None
    jobs: tuple[Job, ...]
    timeline: tuple[Row, ...]
    looks: int
    reports: tuple[ReportFile, ...]
    champion_run: str
    aliases: tuple[tuple[str, str], ...]
    state: State

    @property
    def is_drifting(self) -> bool:
        """Whether any kind of drift is called."""
        return bool(self.drift and self.drift.called)


def page(state: State) -> Page:
    """What is shown of a use case."""
    name, facts = state.use_case.name, state.ledger.value or LedgerFacts()
    found, flows, registry = notices(facts), state.flows.value, state.registry.value
    now_live = live(facts)
    redis_route = state.features.value.routes.get(name) if state.features.value else None
    route = redis_route or state.route
    return Page(
        name=name,
        description=state.use_case.description,
        label=state.use_case.label.name,
        now=state.now,
        is_replay=state.is_replay,
        badge=badge(state.ledger.value, found, route),
        away=tuple(_away(state)),
        live=now_live,
        notices=found,
        versions=traffic(name, state.features.value, route),
        stages=tuple((stage, state.latency[stage]) for stage in _STAGES if stage in state.latency),
        performance=performance(facts.looks, facts.deployments),
        drift=drift(facts.looks),
        labels=labels(facts.looks, state.use_case.label.horizon),
        features=features_of(state),
        deliveries=deliveries(facts.deliveries[:_DELIVERIES], state.links),
        retraining=running_retrain(name, flows) if flows else None,
        cost=cost(facts, state.now),
        jobs=jobs(name, flows, state.links) if flows else (),
        timeline=rows(facts.newest, routine=False)[:_NEWEST],
        looks=len(facts.looks),
        reports=state.reports[:_REPORTS],
        champion_run=registry.runs.get(now_live.version, "") if registry and now_live else "",
        aliases=tuple(sorted(registry.desired.aliases.items())) if registry else (),
        state=state,
    )


_MEANS = {
    "ledger": ("The ledger", "live version, performance, drift and decisions are unknown until it answers"),
    "features": ("Redis", "traffic and freshness are unknown; the gateway goes on with the last route it read"),
    "registry": ("MLflow", "serving goes on; promotions wait until it answers"),
    "flows": ("Prefect", "schedules are unknown, and no retrain can begin"),
}


def _away(state: State) -> list[Away]:
    return [
        Away(what, problem, means)
        for name, (what, means) in _MEANS.items()
        if (problem := getattr(state, name).problem)
    ]
