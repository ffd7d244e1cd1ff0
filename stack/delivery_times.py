"""How long it takes from a decision to retrain until the new version answers, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from core.ledger import Entry

WAITING, BETWEEN, SERVING = "waiting for the flow", "between stages", "deployer, until it answers"


@dataclass(frozen=True)
class DeliveryTimes:
    """One delivery that went live.

    Args:
        version: that answers since.
        trigger: what called for it.
        parts: seconds by part, in order: waiting, the stages, what is between them, the deployer.
        fit_s: of that, seconds of fitting.
    """

    version: str
    trigger: str
    parts: dict[str, float]
    fit_s: float

    @property
    def total_s(self) -> float:
        """From the decision until it answers."""
        return sum(self.parts.values())

    @property
    def other_s(self) -> float:
        """The same without fitting."""
        return self.total_s - self.fit_s

    def as_json(self) -> dict[str, Any]:
        """As JSON, in seconds."""
        parts = {name: round(seconds, 2) for name, seconds in self.parts.items()}
        whole = {"total_s": round(self.total_s, 2), "fit_s": round(self.fit_s, 2), "other_s": round(self.other_s, 2)}
        return {"version": self.version, "trigger": self.trigger, **whole, "parts": parts}


def delivery_times(entries: Sequence[Entry]) -> list[DeliveryTimes]:
    """The deliveries that went live, oldest first.

    Args:
        entries: the ledger's of one use case, newest first.
    """
    triggers = {str(entry.id): entry for entry in entries if entry.kind == "trigger"}
    answers: dict[str | None, Entry] = {}
    for entry in entries:
        if (entry.kind, entry.action) == ("deployment", "deploy"):
            answers[entry.version] = entry  # the oldest counts: later ones are returns
    found = []
    for entry in reversed(entries):
        called, live = triggers.get(str(entry.evidence.get("decision_id"))), answers.get(entry.version)
        is_done = (entry.kind, entry.action) == ("delivery", "done")
        if is_done and called is not None and live is not None and live.id > called.id:
            found.append(_times(entry, called, live))
    return found


def slowest_parts(times: Sequence[DeliveryTimes]) -> list[tuple[str, float, float]]:
    """Each part with its median and its longest seconds, in order."""
    names = list(dict.fromkeys(name for each in times for name in each.parts))
    held = {name: [each.parts.get(name, 0.0) for each in times] for name in names}
    return [(name, median(seconds), max(seconds)) for name, seconds in held.items()]


def _times(delivered: Entry, called: Entry, live: Entry) -> DeliveryTimes:
    stages = delivered.evidence["stages"]
    began = datetime.fromisoformat(stages[0]["started_at"])
    seconds = {stage["name"]: float(stage["seconds"]) for stage in stages}
    promote = next(stage for stage in stages if stage["name"] == "promote")
    promoted_s = (datetime.fromisoformat(promote["started_at"]) - began).total_seconds() + float(promote["seconds"])
    waiting = (began - called.recorded_at).total_seconds()
    serving = (live.recorded_at - began).total_seconds() - promoted_s
    until = {name: seconds[name] for name in seconds if name != "watch"}  # it looks on while the deployer works
    between = promoted_s - sum(until.values())
    parts = {WAITING: waiting, **until, BETWEEN: between, SERVING: serving}
    fit_s = float(delivered.evidence.get("fit_s", 0.0))
    return DeliveryTimes(live.version or "", str(called.evidence.get("trigger", "")), parts, fit_s)
