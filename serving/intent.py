"""What is wanted of each use case: read from the registry, now and then or when somebody says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from core.decision import Decision
from core.errors import DeploymentError, EvergreenError
from core.ledger import Entry
from registry.versions import Desired
from serving.deployment import ACTOR, Stations
from serving.permission import KIND
from serving.promoting import KEEP, MOVED, open_ask
from serving.troubles import Troubles
from serving.wanted import CHAMPION, Wanted, read_wanted

logger = logging.getLogger(__name__)
_ENTRIES = 50
_ASKER_MOVES_IT_WITHIN = timedelta(seconds=10)


class Intent:
    """Reads what is wanted, and moves the alias for whoever asked while the registry was away.

    Args:
        stations: registry and ledger among them.
        every_s: most seconds for which what was read counts; 0: it is read each time.
        monotonic: a clock in seconds that never goes backwards.
    """

    def __init__(self, stations: Stations, every_s: float, monotonic: Callable[[], float]) -> None:
        self._at = stations
        self._every_s, self._monotonic = every_s, monotonic
        self._read: dict[str, Wanted] = {}
        self._due_s = -float("inf")
        self._troubles = Troubles(logger)
        self.known_to = 0
        """The ledger's newest entry before the registry said what counts now."""
        self.is_fresh = False
        """Whether the last `read` asked the registry, and was answered."""

    def look_soon(self) -> None:
        """Let the next `read` ask the registry."""
        self._due_s = -float("inf")

    def read(self) -> dict[str, Wanted]:
        """What is wanted of each use case; nothing while the registry is away, so that serving goes on as it is."""
        now_s = self._monotonic()
        self.is_fresh = False
        if now_s < self._due_s:
            return dict(self._read)
        try:
            known_to, desired = self._at.ledger.newest_id(), self._at.registry.desired()
            desired = {name: self._carry_out(name, found) for name, found in desired.items()}
        except EvergreenError as error:
            self._troubles.note("the registry", error)
            self._read, self._due_s = {}, -float("inf")
            return {}
        self._troubles.over("the registry")
        self._read, self._due_s = self._understood(desired), now_s + self._every_s
        self.known_to = known_to
        self.is_fresh = True
        return dict(self._read)

    def _understood(self, desired: Mapping[str, Desired]) -> dict[str, Wanted]:
        wanted = {}
        for use_case, found in desired.items():
            wanted[use_case], faults = read_wanted(use_case, found)
            if faults:
                self._troubles.note(f"a tag of {use_case}", faults[0])
            else:
                self._troubles.over(f"a tag of {use_case}")
        return wanted

    def _carry_out(self, use_case: str, desired: Desired) -> Desired:
        """Move the alias as was asked while that could not be done, unless somebody moved it since."""
        entries = self._at.ledger.entries(use_case, kind=KIND, limit=_ENTRIES)
        ask = open_ask(entries)
        if ask is None or ask.version is None or self._at.clock.now() - ask.recorded_at < _ASKER_MOVES_IT_WITHIN:
            return desired
        now = desired.aliases.get(CHAMPION)
        if now not in {None, ask.version, *ask.evidence.get("seen", ())}:
            self._close(use_case, ask, KEEP, f"the alias {CHAMPION} was moved to {now} since: it stays there")
            return desired
        try:
            self._at.registry.set_alias(use_case, CHAMPION, ask.version)
        except DeploymentError as error:
            self._close(use_case, ask, KEEP, str(error))
            return desired
        self._close(use_case, ask, MOVED, f"the alias {CHAMPION} is on {ask.version}, as {ask.actor} asked")
        return replace(desired, aliases={**desired.aliases, CHAMPION: ask.version})

    def _close(self, use_case: str, ask: Entry, action: str, reason: str) -> None:
        logger.info("%s: %s", use_case, reason)
        closed = Decision(action, reason, {"alias": CHAMPION, "ask": ask.id})
        self._at.ledger.record(use_case, KIND, closed, actor=ACTOR, as_of=self._at.clock.now(), version=ask.version)
