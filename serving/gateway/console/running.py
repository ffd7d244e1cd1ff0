"""What answers now: the live version, who gets how much, how fast, on how fresh features, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.ledger import Deployment, Entry
from core.use_case import UseCase
from features.definitions import WindowView, feature_set
from monitoring.alerts import PAGE, raised_alerts
from serving.feature_status import FeatureStatus, Freshness, ViewStatus
from serving.gateway.console.latency import Quantiles, by_version, of_tally
from serving.gateway.console.quality import facts_of
from serving.gateway.console.state import LedgerFacts, State
from serving.gateway.console.timeline import BAD, GOOD, NEWS, QUIET, WARN
from serving.permission import HOLD
from serving.permission import held as held_of
from serving.routing import Route

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"


@dataclass(frozen=True)
class Badge:
    """How a use case stands, in a symbol and a few words."""

    symbol: str
    words: str
    tone: str


@dataclass(frozen=True)
class Notice:
    """Something a person should know or do.

    Args:
        tone: ``warn`` or ``bad``.
        title: a few words.
        reason: one sentence.
        entry: id of the decision it comes from; None if there is none.
        approve: the version that can be approved here; empty if none.
    """

    tone: str
    title: str
    reason: str
    entry: int | None = None
    approve: str = ""


@dataclass(frozen=True, kw_only=True)
class Live:
    """The version that answers.

    Args:
        version: its number.
        since: when it was deployed.
        generation: the how-manieth deployment it is.
        actor: who or what had it deployed.
        reason: why.
        previous: what answered before; empty if nothing did.
        decision: id of the promotion behind it; None if none is known.
        baking_since: since when it has been watched as something new; None if it is not.
    """

    version: str
    since: datetime
    generation: int
    actor: str
    reason: str
    previous: str
    decision: int | None
    baking_since: datetime | None


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """How one version did.

    Args:
        version: its number.
        role: champion, canary, shadow, or empty.
        percent: of the traffic it gets, in percent; None if it has no role now.
        requests: calls it was asked for since the gateways started.
        errors: those it gave no scores for.
        latency: of those it answered.
    """

    version: str
    role: str
    percent: float | None
    requests: int
    errors: int
    latency: Quantiles

    @property
    def error_share(self) -> float | None:
        """Of its calls, in [0, 1]; None without any."""
        return self.errors / self.requests if self.requests else None


@dataclass(frozen=True)
class ViewRow:
    """How fresh one stored view is.

    Args:
        name: of the view.
        kind: window or batch.
        newest_at: moment of its newest data; None if it has none.
        age_s: how old that is; None if unknown, as while history is replayed.
        ttl_s: age beyond which its values no longer count; None if they always do.
    """

    name: str
    kind: str
    newest_at: datetime | None
    age_s: float | None
    ttl_s: float | None

    @property
    def is_stale(self) -> bool:
        """Whether defaults are served in place of its values."""
        return self.newest_at is None or (self.age_s is not None and self.ttl_s is not None and self.age_s > self.ttl_s)


@dataclass(frozen=True)
class Features:
    """How fresh what is served is."""

    views: tuple[ViewRow, ...]
    streams: Freshness | None
    audit: Entry | None


def live(facts: LedgerFacts) -> Live | None:
    """The version that answers, by the ledger; None if none ever did."""
    if not facts.deployments:
        return None
    newest = facts.deployments[0]
    behind = next((p.id for p in facts.promotions if p.version == newest.version), None)
    return Live(
        version=newest.version, since=newest.deployed_at, generation=newest.generation, actor=newest.actor,
        reason=newest.reason, previous=newest.previous or "", decision=behind,
        baking_since=facts.standing.baking_since(CHAMPION, facts.deployments),
    )  # fmt: skip


def held(facts: LedgerFacts) -> Entry | None:
    """The promotion that waits for somebody or was refused; None if none does."""
    return held_of(facts.promotions, facts.deployments[0] if facts.deployments else None)


def traffic(use_case: str, features: FeatureStatus | None, route: Route | None) -> tuple[VersionRow, ...]:
    """Versions that have a role, and others that were asked, the newest of these first."""
    tallies = dict(by_version(use_case, features.reports if features else ()))
    roles = _roles(route)
    found = []
    for version, (role, percent) in roles.items():
        tally = tallies.pop(version, None)
        found.append(_version_row(version, role, percent, tally))
    found += [_version_row(version, "", None, tally) for version, tally in sorted(tallies.items(), key=_number)]
    return tuple(found)


def features_of(state: State) -> Features | None:
    """How fresh the features are; None if Redis does not say."""
    if state.features.value is None:
        return None
    statuses = state.features.value.views.get(state.use_case.name, {})
    audits = state.ledger.value.audits if state.ledger.value else ()
    return Features(
        tuple(_view_rows(state.use_case, statuses)), state.features.value.freshness, audits[0] if audits else None
    )


def notices(facts: LedgerFacts) -> tuple[Notice, ...]:
    """What needs a person, what waits for one first."""
    return (*_held(facts), *_alerts(facts), *_failed(facts))


def badge(facts: LedgerFacts | None, found: Sequence[Notice], route: Route | None) -> Badge:
    """How the use case stands."""
    if facts is None:
        return Badge("?", f"version {route.version} answers; history unknown" if route else "unknown", WARN)
    if not facts.deployments:
        return Badge("○", "no version yet", QUIET)
    if any(notice.tone == BAD for notice in found):
        return Badge("✗", "needs attention", BAD)
    if any(notice.approve for notice in found):
        return Badge("⏸", "waits for approval", WARN)
    if found:
        return Badge("!", "serving, with a warning", WARN)
    if route and route.canary:
        return Badge("◐", f"serving, canary {route.canary.version}", NEWS)
    return Badge("●", "serving", GOOD)


def _roles(route: Route | None) -> dict[str, tuple[str, float]]:
    if route is None:
        return {}
    canary = route.canary.percent if route.canary else 0.0
    roles = {route.version: (CHAMPION, 100.0 - canary)}
    for role, share in ((CANARY, route.canary), (SHADOW, route.shadow)):
        if share is not None:
            roles.setdefault(share.version, (role, share.percent))
    return roles


def _version_row(version: str, role: str, percent: float | None, tally: Any) -> VersionRow:
    if tally is None:
        return VersionRow(version=version, role=role, percent=percent, requests=0, errors=0,
                          latency=Quantiles(0, None, None))  # fmt: skip
    return VersionRow(
        version=version, role=role, percent=percent, requests=tally.requests, errors=tally.errors,
        latency=of_tally(tally),
    )  # fmt: skip


def _number(item: tuple[str, Any]) -> tuple[int, str]:
    version = item[0]
    return (-int(version), "") if version.isdigit() else (0, version)


def _view_rows(use_case: UseCase, statuses: Mapping[str, ViewStatus]) -> Iterator[ViewRow]:
    for view in feature_set(use_case).stored_views:
        status = statuses.get(view.name, ViewStatus(None, None))
        newest = datetime.fromisoformat(status.newest_at) if status.newest_at else None
        is_window = isinstance(view, WindowView)
        ttl = None if is_window else getattr(view, "ttl", None)
        ttl_s = ttl.total_seconds() if ttl else None
        yield ViewRow(view.name, "window" if is_window else "batch", newest, status.age_s, ttl_s)


def _held(facts: LedgerFacts) -> Iterator[Notice]:
    waiting = held(facts)
    if waiting is not None:
        is_hold = waiting.action == HOLD
        title = f"Version {waiting.version} {'waits for approval' if is_hold else 'was refused'}"
        yield Notice(WARN, title, waiting.reason, waiting.id, (waiting.version or "") if is_hold else "")


def _alerts(facts: LedgerFacts) -> Iterator[Notice]:
    newest = {each.alert.cause: each for each in raised_alerts(facts.alerts)}
    for each in sorted(newest.values(), key=lambda each: -each.id):
        if each.alert.lasts and not each.has_ended:
            tone = BAD if each.alert.severity == PAGE else WARN
            yield Notice(tone, each.alert.title, each.alert.reason, each.alert.decision_id)


def _failed(facts: LedgerFacts) -> Iterator[Notice]:
    """A retrain that failed and was not followed by one that did not; faults of the data nobody was told of."""
    delivery = facts.deliveries[0] if facts.deliveries else None
    if delivery is not None and delivery.action == "failed":
        yield Notice(BAD, "The newest retrain failed", delivery.reason, delivery.id)
    look = facts.looks[0] if facts.looks else None
    if look is not None and not facts.alerts:
        for fault in facts_of(look).get("faults") or ():
            yield Notice(BAD, f"{fault['kind']} in {fault['column'] or 'the data'}", fault["detail"], look.id)


def deployed_before(deployments: Sequence[Deployment]) -> tuple[str, ...]:
    """Versions that have answered once, the newest first, without the one that does now."""
    found = dict.fromkeys(deployment.version for deployment in deployments)
    return tuple(found)[1:]
