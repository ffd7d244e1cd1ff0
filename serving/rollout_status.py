"""What the status tells of a use case's versions: who gets how much, and how each does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.ledger import Deployment, Entry
    from serving.gateway_report import Report
    from serving.routing import Route
    from serving.standing import Standing


@dataclass(frozen=True)
class PartStatus:
    """One version that is routed to.

    Args:
        version: its number.
        percent: how much of the traffic it gets; None for the champion, which gets the rest.
        baking_since: since when it has been watched, ISO 8601; None if it is not.
    """

    version: str
    percent: float | None = None
    baking_since: str | None = None


@dataclass(frozen=True)
class VersionCounts:
    """What gateways that run now have counted of a version.

    Args:
        requests: calls it was asked for.
        errors: those that it did not answer.
    """

    requests: int
    errors: int


@dataclass(frozen=True)
class RolloutStatus:
    """Who answers a use case.

    Args:
        champion: None if nothing is routed, or Redis does not answer.
        canary: None without one.
        shadow: None without one.
        barred: role -> version that was taken back and may not have it before its alias was gone.
        held: ``version``, ``action``, ``reason`` and ``since`` of the promotion that waits or is refused; None if none.
        orphan: whether the version that answers was deleted in MLflow.
        versions: what was counted, by version.
    """

    champion: PartStatus | None = None
    canary: PartStatus | None = None
    shadow: PartStatus | None = None
    barred: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] | None = None
    orphan: bool = False
    versions: Mapping[str, VersionCounts] = field(default_factory=dict)


def rollout_status(
    use_case: str,
    route: Route | None,
    reports: Iterable[Report],
    deployments: Sequence[Deployment],
    standing: Standing | None,
    entries: Sequence[Entry] = (),
) -> RolloutStatus:
    """What stands.

    Args:
        use_case: whose.
        route: what the gateways are told.
        reports: what they say.
        deployments: newest first.
        standing: by the ledger.
        entries: the newest that hold a promotion, refuse or withdraw it, or say that a version is gone; newest first.
    """

    def part(role: str, version: str, percent: float | None = None) -> PartStatus:
        since = standing.baking_since(role, deployments) if standing else None
        return PartStatus(version, percent, _iso(since))

    shares = {"canary": route.canary, "shadow": route.shadow} if route else {}
    parts = {role: part(role, share.version, share.percent) for role, share in shares.items() if share is not None}
    return RolloutStatus(
        champion=part("champion", route.version) if route else None,
        canary=parts.get("canary"),
        shadow=parts.get("shadow"),
        barred=dict(standing.barred) if standing else {},
        held=_held(entries, deployments),
        orphan=any(
            entry.action == "orphan" and entry.evidence.get("generation") == deployments[0].generation
            for entry in entries
            if deployments
        ),
        versions=_counts(use_case, reports),
    )


def _held(entries: Sequence[Entry], deployments: Sequence[Deployment]) -> Mapping[str, str] | None:
    from serving.permission import KIND, held

    waits = held([entry for entry in entries if entry.kind == KIND], deployments[0] if deployments else None)
    if waits is None or waits.version is None:
        return None
    since = waits.recorded_at.isoformat()
    return {"version": waits.version, "action": waits.action, "reason": waits.reason, "since": since}


def _counts(use_case: str, reports: Iterable[Report]) -> dict[str, VersionCounts]:
    requests: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for report in reports:
        for key, tally in report.tallies.items():
            name, _, version = key.rpartition("/")
            if name == use_case:
                requests[version] += tally.requests
                errors[version] += tally.errors
    return {version: VersionCounts(n, errors[version]) for version, n in sorted(requests.items())}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
