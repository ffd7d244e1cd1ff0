"""Writing down who administered what, and who tried."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from core.clock import Clock
from core.decision import Decision
from core.errors import DependencyDown, EvergreenError, LedgerError
from core.ledger import Ledger

KIND = "admin"
EVERYTHING = "*"  # stands where other entries name a use case
_REFUSALS_A_MINUTE = 60


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Args:
        actor: the id and the name of a key, or a person at the command line; at most 128 characters.
        address: where the call came from; empty if from this machine's command line.
    """

    actor: str
    address: str = ""


class AdminAudit:
    """Appends an entry of kind ``admin`` to the ledger for each admin call, before it is carried out.

    Refusals are written one by one up to 60 a minute, so that nobody can fill the ledger without a key; of more,
    the next entry says how many there were.

    Args:
        ledger: where entries go; brought up to date before the first one.
        clock: tells now.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._is_ready = False
        self._minute = self._refusals = self._unwritten = 0

    def prepare(self) -> None:
        """Bring the database up to date; must have been called before keys are stored.

        Raises:
            DependencyDown: if it cannot be reached.
        """
        if self._is_ready:
            return
        try:
            self._ledger.migrate()
        except (LedgerError, SQLAlchemyError) as error:
            raise DependencyDown("The ledger's database", "it cannot be opened") from error
        self._is_ready = True

    def allow(self, action: str, by: Caller, reason: str, evidence: Mapping[str, Any]) -> None:
        """Record what is about to be done.

        Args:
            action: e.g. ``create_key``.
            by: who asked.
            reason: one sentence.
            evidence: what is done; never a secret.

        Raises:
            DependencyDown: if it cannot be recorded; then it must not be done.
        """
        self._record(action, by, reason, {"outcome": "allowed", **evidence})

    def refuse(self, action: str, by: Caller, error: EvergreenError, evidence: Mapping[str, Any] | None = None) -> None:
        """Record what was refused, and why.

        Raises:
            DependencyDown: if it cannot be recorded.
        """
        with self._lock:
            minute = int(self._clock.now().timestamp()) // 60
            if minute != self._minute:
                self._minute, self._refusals = minute, 0
            self._refusals += 1
            if self._refusals > _REFUSALS_A_MINUTE:
                self._unwritten += 1
                return
        refused = {"outcome": "refused", "error": type(error).__name__, **(evidence or {})}
        self._record(action, by, f"refused: {error}", refused)

    def _record(self, action: str, by: Caller, reason: str, evidence: Mapping[str, Any]) -> None:
        self.prepare()
        with self._lock:
            unwritten, self._unwritten = self._unwritten, 0
        more = {"refusals_not_written_before": unwritten} if unwritten else {}
        decision = Decision(action, reason, {**evidence, "address": by.address, **more})
        try:
            self._ledger.record(EVERYTHING, KIND, decision, actor=by.actor, as_of=self._clock.now())
        except SQLAlchemyError as error:
            raise DependencyDown("The ledger's database", type(error).__name__) from error
