"""Letting only those versions become champion that may, and saying what is kept waiting and how it goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from core.decision import Decision
from core.errors import DependencyDown, DeploymentError
from core.ledger import Deployment
from serving.deployment import ACTOR, Stations
from serving.permission import ALLOW, HOLD, KIND, REFUSE, WITHDRAW, Rules, held, permit
from serving.promoting import read_known
from serving.standing import KIND as DEPLOYMENT
from serving.wanted import CHAMPION, Wanted

logger = logging.getLogger(__name__)
ORPHAN = "orphan"


class Doorkeeper:
    """Applies the rules of promotion to what the registry asks for.

    Args:
        stations: registry and ledger among them.
        rules: what a version that never answered needs.
    """

    def __init__(self, stations: Stations, rules: Rules) -> None:
        self._at = stations
        self._rules = rules
        self._tagged: dict[tuple[str, str], str] = {}

    def let_in(self, use_case: str, wanted: Wanted, deployments: Sequence[Deployment], *, is_fresh: bool) -> Wanted:
        """What is wanted, without a champion that may not be it now.

        Args:
            use_case: whose.
            wanted: what the registry asks for.
            deployments: of the use case, newest first.
            is_fresh: whether the registry was asked just now.
        """
        live = deployments[0] if deployments else None
        if is_fresh and live is not None and wanted.champion != live.version:
            self._look_for(use_case, live)
        version = wanted.champion
        if version is None or any(deployment.version == version for deployment in deployments):
            if is_fresh:
                self._withdraw(use_case, version, live)
            return wanted
        known = read_known(
            self._at.ledger, use_case, version, deployments, self._forced(use_case, version, is_fresh=is_fresh)
        )
        decision = permit(known, self._rules)
        if decision.action == ALLOW:
            return wanted
        self._say(use_case, version, decision)
        return replace(wanted, champion=None)

    def _forced(self, use_case: str, version: str, *, is_fresh: bool) -> str:
        """Why the version's tag in the registry forces it; empty if it does not."""
        if is_fresh or (use_case, version) not in self._tagged:
            try:
                self._tagged[use_case, version] = self._at.registry.info(use_case, version).forced
            except DependencyDown:
                return self._tagged.get((use_case, version), "")
            except DeploymentError:  # not Evergreen's, or gone: whatever loads it says so
                self._tagged[use_case, version] = ""
        return self._tagged[use_case, version]

    def _say(self, use_case: str, version: str, decision: Decision) -> None:
        """Put on record, once, what is kept waiting or refused."""
        entries = self._at.ledger.entries(use_case, kind=KIND, actions=(HOLD, REFUSE, WITHDRAW), limit=1)
        told = Decision(
            decision.action, f"{decision.reason}. Go on with: {decision.evidence['how']}", decision.evidence
        )
        if entries and (entries[0].version, entries[0].action, entries[0].reason) == (
            version, told.action, told.reason,
        ):  # fmt: skip
            return
        logger.warning("%s: %s", use_case, told.reason)
        self._at.ledger.record(use_case, KIND, told, actor=ACTOR, as_of=self._at.clock.now(), version=version)

    def _withdraw(self, use_case: str, version: str | None, live: Deployment | None) -> None:
        """Put on record that nobody asks any more for what was kept waiting."""
        entries = self._at.ledger.entries(use_case, kind=KIND, actions=(HOLD, REFUSE, WITHDRAW), limit=1)
        waits = held(entries, live)
        if waits is None or waits.version == version:
            return
        gone = Decision(WITHDRAW, f"the alias {CHAMPION} is on {waits.version} no longer", {"alias": CHAMPION})
        self._at.ledger.record(use_case, KIND, gone, actor=ACTOR, as_of=self._at.clock.now(), version=waits.version)

    def _look_for(self, use_case: str, live: Deployment) -> None:
        """Raise an alarm, once, if the version that answers was deleted."""
        try:
            self._at.registry.info(use_case, live.version)
            return
        except DependencyDown:
            return
        except DeploymentError as error:
            missing = error
        known = self._at.ledger.entries(use_case, kind=DEPLOYMENT, version=live.version, actions=(ORPHAN,), limit=1)
        if known and known[0].evidence.get("generation") == live.generation:
            return
        reason = (
            f"version {live.version}, which answers, is not in the registry any more ({missing}). It goes on to answer "
            "from the archive that is kept, and cannot be loaded anew should that be lost: promote another one"
        )
        logger.error("%s: %s", use_case, reason)
        evidence = {"role": CHAMPION, "generation": live.generation}
        self._at.ledger.record(
            use_case, DEPLOYMENT, Decision(ORPHAN, reason, evidence), actor=ACTOR, as_of=self._at.clock.now(),
            version=live.version,
        )  # fmt: skip
