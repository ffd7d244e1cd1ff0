"""What the ledger says stands: which versions share the traffic, since when, and which were taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.ledger import Deployment, Entry, Ledger
from serving.routing import Share
from serving.wanted import CANARY, CHAMPION, SHADOW

KIND = "deployment"
END, ROLLBACK, RELEASE, PASS = "end", "rollback", "release", "pass"
_ACTIONS = (CANARY, SHADOW, END, ROLLBACK, RELEASE, PASS)
_ENTRIES = 200  # a person changes a share a few times


@dataclass(frozen=True)
class Part:
    """A version in the role of canary or shadow.

    Args:
        share: which version, and how much it gets.
        since: when it got that share.
        baking: whether it is still watched.
    """

    share: Share
    since: datetime
    baking: bool


@dataclass(frozen=True)
class Standing:
    """What stands for a use case besides who is champion.

    Args:
        parts: by role, ``canary`` and ``shadow``.
        taken_back: by role: the verdict on a version that is not to serve in it again before its alias was gone.
        passed: generations whose champion has passed its bake.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    taken_back: dict[str, Entry] = field(default_factory=dict)
    passed: frozenset[int] = frozenset()

    @property
    def barred(self) -> dict[str, str]:
        """By role: the version that was taken back."""
        return {role: entry.version for role, entry in self.taken_back.items() if entry.version is not None}

    def share(self, role: str) -> Share | None:
        """What a role's version gets; None if no version has the role."""
        part = self.parts.get(role)
        return part.share if part else None

    def baking_since(self, role: str, deployments: Sequence[Deployment]) -> datetime | None:
        """Since when the version in a role has been watched; None if it is not.

        Args:
            role: ``champion`` or ``canary``.
            deployments: of the use case, newest first.
        """
        if role == CHAMPION:
            if not _is_news(deployments):
                return None
            live = deployments[0]
            is_over = live.generation in self.passed or live.version == self.barred.get(CHAMPION)
            return None if is_over else live.deployed_at
        part = self.parts.get(role)
        return part.since if part is not None and part.baking else None


def read_standing(ledger: Ledger, use_case: str) -> Standing:
    """What stands by the ledger."""
    entries = ledger.entries(use_case, kind=KIND, actions=_ACTIONS, limit=_ENTRIES)
    return standing(reversed(entries))


def standing(entries: Iterable[Entry]) -> Standing:
    """What stands after some entries, the oldest first."""
    now = Standing()
    for entry in entries:
        now = _after(now, entry)
    return now


def _after(now: Standing, entry: Entry) -> Standing:
    role, version = entry.evidence.get("role"), entry.version
    if role is None or version is None:
        return now
    parts, taken_back = dict(now.parts), dict(now.taken_back)
    if entry.action in (CANARY, SHADOW):
        share = Share(version, float(entry.evidence["percent"]))
        parts[role] = Part(share, entry.recorded_at, baking=role == CANARY)
    elif entry.action == END:
        parts.pop(role, None)
    elif entry.action == ROLLBACK:
        parts.pop(role, None)
        taken_back[role] = entry
    elif entry.action == RELEASE:
        taken_back.pop(role, None)
    elif entry.action == PASS and role in parts:
        parts[role] = replace(parts[role], baking=False)
    elif entry.action == PASS and role == CHAMPION:
        return replace(now, passed=now.passed | {int(entry.evidence["generation"])})
    return Standing(parts, taken_back, now.passed)


def _is_news(deployments: Sequence[Deployment]) -> bool:
    """Whether the live version follows one that had served before it: going back is not watched."""
    if not deployments or deployments[0].previous is None:
        return False
    first: dict[str, int] = {}
    for deployment in reversed(deployments):
        first.setdefault(deployment.version, deployment.generation)
    live = deployments[0]
    return first[live.version] > first.get(live.previous or "", 0)
