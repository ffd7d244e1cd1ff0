"""Decisions as rows of a timeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.ledger import Entry

GOOD, WARN, BAD, QUIET, NEWS = "good", "warn", "bad", "quiet", "news"
KINDS: Mapping[str, str] = {
    "trigger": "looks and triggers",
    "delivery": "deliveries",
    "gate": "gate verdicts",
    "promotion": "promotions",
    "deployment": "deployments",
    "aftermath": "aftermath",
    "alert": "alerts",
    "audit": "feature audits",
    "data_check": "data checks",
    "materialize": "batch features",
    "admin": "administration",
}
"""Kinds of entries, and what people call them."""
_ROUTINE = {
    ("trigger", "wait"), ("audit", "pass"), ("aftermath", "wait"), ("materialize", "publish"), ("data_check", "pass"),
    ("alert", "end"), ("alert", "retry"), ("deployment", "release"), ("promotion", "moved"),
}  # fmt: skip
_TONES: Mapping[str, tuple[str, str]] = {
    "promote": ("▲", GOOD), "deploy": ("●", GOOD), "approve": ("✓", GOOD), "confirm": ("✓", GOOD), "pass": ("✓", GOOD),
    "done": ("✓", GOOD), "publish": ("↻", QUIET), "wait": ("·", QUIET), "keep": ("=", QUIET), "moved": ("→", QUIET),
    "retrain": ("↻", NEWS), "canary": ("◐", NEWS), "shadow": ("◌", NEWS), "end": ("○", QUIET),
    "release": ("○", QUIET), "skipped": ("–", QUIET), "raise": ("!", WARN), "retry": ("!", WARN), "hold": ("⏸", WARN),
    "force": ("!", WARN), "rollback": ("↩", BAD), "reject": ("✗", BAD), "refuse": ("✗", BAD), "failed": ("✗", BAD),
    "alarm": ("✗", BAD), "withdraw": ("○", QUIET), "allow": ("✓", GOOD),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One decision.

    Args:
        id: the ledger's.
        use_case: whose.
        symbol: stands for the action beside its word.
        tone: ``good``, ``warn``, ``bad``, ``news`` or ``quiet``.
        kind: of the entry.
        action: what was decided.
        reason: why.
        actor: who.
        version: it concerns; empty if none.
        as_of: the moment it was decided for.
        recorded_at: the moment it was written down.
    """

    id: int
    use_case: str
    symbol: str
    tone: str
    kind: str
    action: str
    reason: str
    actor: str
    version: str
    as_of: datetime
    recorded_at: datetime


def row(entry: Entry) -> Row:
    """An entry as a row."""
    symbol, tone = _TONES.get(entry.action, ("•", QUIET))
    refused: Any = entry.kind == "admin" and entry.evidence.get("outcome") == "refused"
    if refused:
        symbol, tone = "✗", BAD
    return Row(
        entry.id, entry.use_case, symbol, tone, entry.kind, entry.action, entry.reason, entry.actor,
        entry.version or "", entry.as_of, entry.recorded_at,
    )  # fmt: skip


def is_routine(entry: Entry) -> bool:
    """Whether it says only that all is as it was."""
    return (entry.kind, entry.action) in _ROUTINE


def rows(entries: Iterable[Entry], *, routine: bool = True) -> tuple[Row, ...]:
    """Entries as rows, with or without those that say only that all is as it was."""
    return tuple(row(entry) for entry in entries if routine or not is_routine(entry))
