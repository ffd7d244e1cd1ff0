"""Who asked for a deployment, and why: read from the ledger when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from core.ledger import Deployment, Entry, Ledger
from serving.permission import APPROVE, FORCE, KIND, PROMOTE, ROLLBACK
from serving.standing import KIND as DEPLOYMENT

IN_MLFLOW = "MLflow"
_FLOW = "flow "
_ENTRIES = 200


@dataclass(frozen=True)
class Asked:
    """What led to a deployment.

    Args:
        actor: who asked; ``MLflow`` if the alias was moved there, which gives no name.
        reason: why; empty if nobody said.
        decisions: ids of the ledger's entries that led to it.
    """

    actor: str
    reason: str
    decisions: list[int]


def asked_for(ledger: Ledger, use_case: str, version: str, deployments: Sequence[Deployment]) -> Asked:
    """Who asked that a version becomes champion since it last did, and on what.

    Args:
        ledger: where it stands.
        use_case: whose.
        version: what is about to be deployed.
        deployments: of the use case, newest first.
    """
    since = next((each.deployed_at for each in deployments if each.version == version), None)
    asks = [
        entry
        for entry in ledger.entries(
            use_case, kind=KIND, version=version, actions=(PROMOTE, ROLLBACK, FORCE, APPROVE), limit=_ENTRIES
        )
        if since is None or entry.recorded_at >= since
    ]
    gates = ledger.entries(use_case, kind="gate", version=version, limit=1)
    taken = _taken_back(ledger, use_case, deployments)
    ids = sorted({entry.id for entry in (*asks, *gates, *taken)})
    asker = next((entry for entry in asks if entry.action != APPROVE), None) or next(iter(taken), None)
    return Asked(asker.actor, asker.reason, ids) if asker else Asked(IN_MLFLOW, "", ids)


def event_now(ledger: Ledger, use_case: str) -> datetime | None:
    """The event time to which flows have come; None before the first one."""
    found = ledger.entries(use_case, limit=_ENTRIES)
    return next((entry.as_of for entry in found if entry.actor.startswith(_FLOW)), None)


def _taken_back(ledger: Ledger, use_case: str, deployments: Sequence[Deployment]) -> list[Entry]:
    """The verdict that took the live version back, if one did."""
    if not deployments:
        return []
    live = deployments[0]
    found = ledger.entries(use_case, kind=DEPLOYMENT, version=live.version, actions=(ROLLBACK,), limit=1)
    return [entry for entry in found if entry.evidence.get("generation") == live.generation]
