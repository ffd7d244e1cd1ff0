"""Asking for another champion: by command line, console or anybody who has a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from core.clock import Clock
from core.decision import Decision
from core.errors import DeploymentError, NotPermitted, Unavailable
from core.ledger import Deployment, Entry, Ledger
from serving.permission import (
    APPROVE,
    FORCE,
    HOLD,
    KIND,
    PROMOTE,
    REFUSE,
    ROLLBACK,
    STANDS_FOR,
    Known,
    Rules,
    force_remedy,
    permit,
    person,
)
from serving.standing import KIND as DEPLOYMENT
from serving.wanted import CHAMPION

MOVED, KEEP = "moved", "keep"
_ENTRIES = 200


class Aliases(Protocol):
    """Where intent is kept: the part of a model registry that promotions need.

    Every method raises DependencyDown if it does not answer. ``set_alias`` may be repeated.
    """

    def alias(self, use_case: str, name: str) -> str | None:
        """The version an alias points to; None without such an alias, version or use case."""
        ...

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        """Point an alias to a version, or to none.

        Raises:
            DeploymentError: if there is no such version; nothing is changed then.
        """
        ...


class Promotions:
    """Writes down who asks for what, and moves the alias; the deployer follows it.

    What is asked while the registry is away stands in the ledger, and the deployer moves the alias once it is back.

    Args:
        aliases: where the alias is.
        ledger: where requests are kept.
        clock: tells now.
        rules: what a version that never answered needs.
        wake: tells the deployer to look now.
    """

    def __init__(
        self,
        aliases: Aliases,
        ledger: Ledger,
        clock: Clock,
        rules: Rules | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._aliases, self._ledger, self._clock = aliases, ledger, clock
        self._rules, self._wake = rules or Rules(), wake

    def promote(self, use_case: str, version: str, *, actor: str, reason: str, force: bool = False) -> None:
        """Ask that a version becomes the champion.

        Where a second person has to approve, it waits for them.

        Raises:
            NotPermitted: if it has passed no gate and is not forced, or is forced without a reason.
            DeploymentError: if there is no such version.
            DependencyDown: if the registry is away; the request stands all the same, and is carried out later.
        """
        if force and not reason.strip():
            raise NotPermitted("Forcing a version needs a reason.", "Say why the gate is passed over.")
        decision = permit(self._known(use_case, version), self._rules)
        if decision.action == REFUSE and not force:
            raise NotPermitted(f"{use_case}: {decision.reason}.", f"Use: {force_remedy(use_case, version)}.")
        is_override = force and decision.action == REFUSE
        self._ask(use_case, version, FORCE if is_override else PROMOTE, actor, reason)

    def rollback(self, use_case: str, *, actor: str, reason: str) -> str:
        """Ask for the version that answered before the present one; needs nothing but the ledger.

        Returns:
            That version.

        Raises:
            DeploymentError: if there is none, or it was itself taken back because it did worse.
        """
        live = self._ledger.live(use_case)
        if live is None or live.previous is None:
            raise DeploymentError(
                f"{use_case} has no earlier version to return to. See: evergreen history {use_case}; "
                f"to take another version: evergreen promote {use_case} VERSION"
            )
        self._require_unspoilt(use_case, live.previous)
        now, back = self._clock.now(), live.previous
        known = {"alias": CHAMPION, "from": live.version, "generation": live.generation}
        self._ledger.record(use_case, KIND, Decision(ROLLBACK, reason, known), actor=actor, as_of=now, version=back)
        taken = Decision(ROLLBACK, f"champion {live.version} is taken back by hand: {reason}",
                         {"role": CHAMPION, "generation": live.generation, "by_hand": True})  # fmt: skip
        id_ = self._ledger.record(use_case, DEPLOYMENT, taken, actor=actor, as_of=now, version=live.version)
        with suppress(Unavailable):  # the deployer goes back by the ledger, and moves the alias once it can
            self._aliases.set_alias(use_case, CHAMPION, back)
            self._close(use_case, back, id_, MOVED, f"the alias {CHAMPION} is on {back}", actor)
        self._wake()
        return back

    def approve(self, use_case: str, version: str, *, actor: str, reason: str) -> None:
        """Stand for a version that somebody else asked for.

        Raises:
            NotPermitted: if `actor` is the only one who asked, or nobody asked.
        """
        known = self._known(use_case, version)
        if any(deployment.version == version for deployment in known.deployments[:1]):
            raise NotPermitted(f"Version {version} of {use_case} answers already.", "There is nothing to approve.")
        waits = self._ledger.entries(
            use_case, kind=KIND, version=version, actions=(*STANDS_FOR, HOLD, REFUSE), limit=_ENTRIES
        )
        if not waits:
            raise NotPermitted(
                f"Nobody has asked for version {version} of {use_case}.",
                f"Ask for it: evergreen promote {use_case} {version}",
            )
        named = {person(ask.actor) for ask in known.asks}
        if named == {person(actor)}:
            raise NotPermitted(
                f"{person(actor)} asked for version {version} of {use_case}, and cannot approve it as well.",
                f"Another person has to: evergreen approve {use_case} {version}",
            )
        decision = Decision(APPROVE, reason, {"alias": CHAMPION, "named": sorted(named | {person(actor)})})
        self._ledger.record(use_case, KIND, decision, actor=actor, as_of=self._clock.now(), version=version)
        self._wake()

    def judged(self, use_case: str, version: str) -> Decision:
        """What the rules say of a version now, by the ledger alone: ``allow``, ``hold`` or ``refuse``."""
        return permit(self._known(use_case, version), self._rules)

    def _ask(self, use_case: str, version: str, action: str, actor: str, reason: str) -> None:
        seen = seen_versions(self._ledger, use_case)
        asked = Decision(action, reason, {"alias": CHAMPION, "pending": True, "seen": sorted(seen)})
        id_ = self._ledger.record(use_case, KIND, asked, actor=actor, as_of=self._clock.now(), version=version)
        try:
            self._aliases.set_alias(use_case, CHAMPION, version)
        except Unavailable:
            self._wake()
            raise
        except DeploymentError as error:
            self._close(use_case, version, id_, KEEP, str(error), actor)
            raise
        self._close(use_case, version, id_, MOVED, f"the alias {CHAMPION} is on {version}", actor)
        self._wake()

    def _close(self, use_case: str, version: str, ask: int, action: str, reason: str, actor: str) -> None:
        closed = Decision(action, reason, {"alias": CHAMPION, "ask": ask})
        self._ledger.record(use_case, KIND, closed, actor=actor, as_of=self._clock.now(), version=version)

    def _known(self, use_case: str, version: str) -> Known:
        return read_known(self._ledger, use_case, version, self._ledger.deployments(use_case))

    def _require_unspoilt(self, use_case: str, previous: str) -> None:
        back = self._ledger.entries(
            use_case, kind=DEPLOYMENT, version=previous, actions=("deploy", ROLLBACK), limit=_ENTRIES
        )
        last = back[0] if back else None
        if last is None or last.action != ROLLBACK or last.evidence.get("by_hand"):
            return
        if last.evidence.get("role") == CHAMPION:
            raise DeploymentError(
                f"The version of {use_case} before this one, {previous}, was itself taken back: {last.reason}. "
                f"Take another one: evergreen promote {use_case} VERSION"
            )


def read_known(
    ledger: Ledger, use_case: str, version: str, deployments: Sequence[Deployment], tagged: str = ""
) -> Known:
    """What the ledger says of a version that is to become champion."""
    gates = ledger.entries(use_case, kind="gate", version=version, limit=1)
    return Known(
        use_case=use_case,
        version=version,
        gate=gates[0] if gates else None,
        asks=ledger.entries(use_case, kind=KIND, version=version, actions=STANDS_FOR, limit=_ENTRIES),
        deployments=deployments,
        tagged=tagged,
    )


def seen_versions(ledger: Ledger, use_case: str) -> set[str]:
    """The versions that the alias may be on as far as the ledger knows: what answers, and what is held."""
    live = ledger.live(use_case)
    waits = ledger.entries(use_case, kind=KIND, actions=(HOLD, REFUSE), limit=1)
    return {entry.version for entry in waits if entry.version} | ({live.version} if live else set())


def is_named_anew(ledger: Ledger, taken_back: Entry, known_to: int) -> bool:
    """Whether the version that an alias was taken from got it again, though nobody saw the alias leave.

    It did if somebody asked for that version since, or if the alias is on it after it was moved elsewhere.

    Args:
        ledger: where requests and moves are kept.
        taken_back: the verdict on the version that the alias is on.
        known_to: the newest entry from before the registry was asked; what was moved later may not have been seen.
    """
    since = ledger.entries(
        taken_back.use_case, kind=KIND, actions=(MOVED, PROMOTE, FORCE), before=known_to + 1, limit=_ENTRIES
    )
    return any(
        entry.evidence["ask"] >= taken_back.id
        if entry.action == MOVED
        else (entry.version == taken_back.version and entry.id > taken_back.id)
        for entry in since
    )


def open_ask(entries: Sequence[Entry]) -> Entry | None:
    """The newest request whose alias was not moved yet; older ones are over with it.

    Args:
        entries: of the kind ``promotion``, newest first.
    """
    for entry in entries:
        if entry.action in (MOVED, KEEP, ROLLBACK):
            return None
        if entry.evidence.get("pending"):
            return entry
    return None
