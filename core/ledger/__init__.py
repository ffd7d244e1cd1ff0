"""The append-only record of every decision, deployment and lease."""

from core.ledger.ledger import Deployment, Entry, Ledger

__all__ = ["Deployment", "Entry", "Ledger"]
