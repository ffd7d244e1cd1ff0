"""What people do from the console: each recorded before it is done, and followed until it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.clock import SystemClock
from core.errors import InvalidField, Unavailable
from core.ledger import Entry, Ledger
from core.settings import Settings
from registry.alias_client import AliasClient
from serving.gateway.console.flow_runs import RETRAIN, FlowRuns
from serving.gateway.console.visitors import Visitor
from serving.keys.audit import AdminAudit
from serving.permission import HOLD, REFUSE, Rules
from serving.promoting import Promotions
from serving.routing import Route

PROMOTE, ROLLBACK, APPROVE, TRAIN = "promote", "rollback", "approve", "retrain"
ACTIONS: Mapping[str, str] = {
    PROMOTE: "Promote a version", ROLLBACK: "Roll back", APPROVE: "Approve a version", TRAIN: "Retrain",
}  # fmt: skip
_LONGEST_REASON, _LONGEST_VERSION = 500, 12
_CAME = 30


@dataclass(frozen=True)
class Wish:
    """What somebody wants done.

    Args:
        action: promote, rollback, approve or retrain.
        use_case: with which use case.
        version: with which version; empty for the actions that need none.
        reason: why.
        force: whether to promote although the gate did not.
        once: a text that is the same if the same form is sent twice.
    """

    action: str
    use_case: str
    version: str = ""
    reason: str = ""
    force: bool = False
    once: str = ""

    def require_sound(self) -> None:
        """Return if it can be done as far as its form goes.

        Raises:
            InvalidField: naming the field that cannot be.
        """
        if not 0 < len(self.reason.strip()) <= _LONGEST_REASON or not self.reason.isprintable():
            raise InvalidField(
                "A reason is needed: it is kept in the ledger.", field="reason",
                remedy=f"Write 1 to {_LONGEST_REASON} characters on one line.",
            )  # fmt: skip
        is_number = self.version.isascii() and self.version.isdigit() and len(self.version) <= _LONGEST_VERSION
        if self.action in (PROMOTE, APPROVE) and not is_number:
            raise InvalidField(f"It is {self.version[:30]!r}.", field="version", remedy="Choose a version's number.")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How something that was asked for stands.

    Args:
        is_over: whether nothing more is to come.
        has_failed: whether it ended without having been done.
        says: one sentence.
        came: what was decided since, the oldest first.
        link: to the flow run; empty if there is none.
    """

    is_over: bool
    has_failed: bool
    says: str
    came: tuple[Entry, ...]
    link: str = ""


class Actions:
    """Does what people ask for.

    Args:
        settings: the rules of promotion.
        ledger: where it is recorded.
        audit: where it is recorded who asked, before it is done.
        aliases: MLflow's.
        flows: Prefect's.
        wake: tells the deployer to look now.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        audit: AdminAudit,
        aliases: AliasClient,
        flows: FlowRuns,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        own = settings.promotion
        rules = Rules(require_gate=own.require_gate, second_person=own.second_person)
        self._promotions = Promotions(aliases, ledger, SystemClock(), rules, wake)
        self._ledger, self._audit, self._flows = ledger, audit, flows

    def carry_out(self, wish: Wish, visitor: Visitor) -> dict[str, str]:
        """Do it.

        Returns:
            What its progress is told by, see `progress`.

        Raises:
            EvergreenError: if it is refused, or cannot be done; nothing is done that was not recorded.
        """
        wish.require_sound()
        what = f"{wish.action} of {wish.use_case}{f' version {wish.version}' if wish.version else ''}"
        evidence = {"use_case": wish.use_case, "version": wish.version or None, "force": wish.force}
        self._audit.allow(wish.action, visitor.caller, f"{what}: {wish.reason}", evidence)
        newest = self._ledger.entries(wish.use_case, limit=1)
        told = {"action": wish.action, "version": wish.version, "after": str(newest[0].id if newest else 0)}
        by: dict[str, Any] = {"actor": visitor.actor, "reason": wish.reason}
        if wish.action == PROMOTE:
            with suppress(Unavailable):  # the request stands in the ledger, and is carried out once MLflow is back
                self._promotions.promote(wish.use_case, wish.version, force=wish.force, **by)
        elif wish.action == APPROVE:
            self._promotions.approve(wish.use_case, wish.version, **by)
        elif wish.action == ROLLBACK:
            told["version"] = self._promotions.rollback(wish.use_case, **by)
        else:
            reason = f"{wish.reason} ({visitor.name}, console)"
            run = self._flows.start(RETRAIN, {"use_case": wish.use_case, "reason": reason}, once=wish.once)
            told["run"] = run.id
        return told

    def progress(self, use_case: str, told: Mapping[str, str], route: Route | None) -> Progress:
        """How it stands.

        Args:
            use_case: whose.
            told: by `carry_out`.
            route: what this gateway follows now.

        Raises:
            DependencyDown: if it is a retrain, and Prefect does not answer.
        """
        after = int(told.get("after") or 0)
        came = tuple(e for e in reversed(self._ledger.entries(use_case, limit=_CAME)) if e.id > after)
        if told.get("action") == TRAIN:
            return self._retraining(told.get("run", ""), came)
        return self._switching(use_case, told.get("version", ""), came, route)

    def _retraining(self, run_id: str, came: tuple[Entry, ...]) -> Progress:
        run = self._flows.run(run_id)
        failed = run.is_final and run.state != "Completed"
        verdict = next((entry for entry in reversed(came) if entry.kind in ("delivery", "gate")), None)
        said = f"Flow run {run.name}: {run.state}."
        if run.is_final and verdict is not None:
            said += f" {verdict.kind.capitalize()}: {verdict.action}. {verdict.reason}"
        return Progress(is_over=run.is_final, has_failed=failed, says=said, came=came, link=run.id)

    def _switching(self, use_case: str, version: str, came: tuple[Entry, ...], route: Route | None) -> Progress:
        live = self._ledger.live(use_case)
        if live is not None and live.version == version and route is not None and route.version == version:
            said = f"Version {version} answers (deployment {live.generation})."
            return Progress(is_over=True, has_failed=False, says=said, came=came)
        for entry in reversed(came):
            if entry.version != version:
                continue
            if entry.kind == "promotion" and entry.action == HOLD:
                return Progress(is_over=True, has_failed=False, says=f"It waits: {entry.reason}.", came=came)
            if entry.action == REFUSE:
                return Progress(is_over=True, has_failed=True, says=f"It was refused: {entry.reason}", came=came)
        said = f"Version {version} is wanted; the deployer verifies, loads and tries it before it answers."
        return Progress(is_over=False, has_failed=False, says=said, came=came)
