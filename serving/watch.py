"""Following versions through their bakes: from what gateways count to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.decision import Decision
from core.ledger import Deployment
from core.serving_policy import Bake
from serving.baking import WAIT, judge_bake
from serving.counts import Counts, minus
from serving.gateway_report import Report, Tally
from serving.standing import Standing
from serving.wanted import CANARY, CHAMPION

_HISTORY_S = 600.0


@dataclass(frozen=True)
class Verdict:
    """What is decided about a version in a role."""

    role: str
    version: str
    decision: Decision


@dataclass(frozen=True)
class _Window:
    """From where on a version is counted.

    Args:
        about: what it is that is watched; another one begins a new window.
        bake: what is allowed.
        version: who is watched.
        mark: what was counted of it before.
        other: who it is compared with.
        other_mark: what was counted of that one before.
        known: what that one did before, if it did enough to compare with.
    """

    about: tuple[object, ...]
    bake: Bake
    version: str
    mark: Tally
    other: str
    other_mark: Tally
    known: Tally | None


class Watch:
    """Watches canaries against their champions, and new champions against those they followed.

    It remembers what was counted when a bake began. A deployer that is started during a bake counts from then on.

    Args:
        bake_of: what a use case allows its new versions.
    """

    def __init__(self, bake_of: Callable[[str], Bake]) -> None:
        self._bake_of = bake_of
        self._counts = Counts(_HISTORY_S)
        self._windows: dict[tuple[str, str], _Window] = {}
        self._interrupted: set[str] = set()

    def look(self, reports: Mapping[str, Report], now_s: float) -> None:
        """Take in the gateways' reports; `now_s` is of a clock that never goes backwards."""
        self._counts.look(reports, now_s)

    def interrupt(self, use_case: str | None = None) -> None:
        """Begin to count anew, for one use case or all: what failed meanwhile is no version's fault."""
        for key in [key for key in self._windows if use_case in (None, key[0])]:
            self._interrupted.add(key[0])
            del self._windows[key]

    def verdicts(
        self,
        use_case: str,
        deployments: Sequence[Deployment],
        standing: Standing,
        loaded: Collection[str],
        now: datetime,
    ) -> list[Verdict]:
        """What is decided about the versions that are in their bake.

        Args:
            use_case: whose.
            deployments: of the use case, newest first.
            standing: what stands besides.
            loaded: versions that answer; with none of them, the host was just started and nothing can be judged.
            now: by the ledger's clock.
        """
        if not loaded:
            self.interrupt(use_case)
            return []
        found = []
        for role in (CHAMPION, CANARY):
            since = standing.baking_since(role, deployments)
            if since is None or not deployments:
                self._windows.pop((use_case, role), None)
                continue
            window = self._window(use_case, role, deployments[0], standing, since)
            decision = self._judge(use_case, role, window, now - since)
            if decision.action != WAIT:
                found.append(Verdict(role, window.version, decision))
        self._interrupted.discard(use_case)
        return found

    def _judge(self, use_case: str, role: str, window: _Window, age: timedelta) -> Decision:
        candidate = minus(self._counts.now(use_case, window.version), window.mark)
        beside = minus(self._counts.now(use_case, window.other), window.other_mark)
        is_enough = role == CANARY and beside.requests >= window.bake.min_requests
        return judge_bake(window.bake, candidate, beside if is_enough else window.known, age)

    def _window(self, use_case: str, role: str, live: Deployment, standing: Standing, since: datetime) -> _Window:
        about = (role, live.generation, since)
        known = self._windows.get((use_case, role))
        if known is not None and known.about == about:
            return known
        share = standing.share(role)
        version, other = (share.version, live.version) if share else (live.version, live.previous or "")
        mark = self._counts.now if use_case in self._interrupted else self._counts.before
        bake = self._bake_of(use_case)
        window = _Window(
            about, bake, version, mark(use_case, version), other, mark(use_case, other),
            self._known(use_case, other, bake.min_requests),
        )  # fmt: skip
        self._windows[use_case, role] = window
        return window

    def _known(self, use_case: str, version: str, min_requests: int) -> Tally | None:
        """What a version did lately; if that is too little, all that is known of it; None if that is too little too."""
        for tally in (self._counts.lately(use_case, version), self._counts.now(use_case, version)):
            if tally.requests >= min_requests:
                return tally
        return None
