"""Which version answered at a moment: a pure function of the ledger's deployments."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from core.ledger import Deployment


def answered_since(deployment: Deployment) -> datetime:
    """From when on it answered: by the ledger's clock, or by event time if it was made while history was replayed."""
    return deployment.as_of if deployment.evidence.get("clock") == "event" else deployment.deployed_at


def answered_at(deployments: Iterable[Deployment], moment: datetime) -> Deployment | None:
    """The deployment that answered at a moment; None if nothing did.

    Of those that had begun to answer by then, it is the one with the highest generation.

    Args:
        deployments: of one use case, in any order.
        moment: aware, UTC.
    """
    begun = (each for each in deployments if answered_since(each) <= moment)
    return max(begun, key=lambda each: each.generation, default=None)
