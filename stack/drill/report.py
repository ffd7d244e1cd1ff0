"""What a drill says: to people a table, to machines JSON, to the ledger a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stack.drill.verdicts import FAIL, PASS, SKIP, Outcome

if TYPE_CHECKING:
    from rich.table import Table

_MARKS = {PASS: "[green]✓ pass[/]", FAIL: "[red]✗ fail[/]", SKIP: "– skipped"}


def is_passed(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing failed, and something was rehearsed at all."""
    return all(o.verdict != FAIL for o in outcomes) and any(o.verdict == PASS for o in outcomes[:-1])


def said(outcomes: Sequence[Outcome]) -> str:
    """One sentence.

    Example:
        >>> said([Outcome("rollback", "pass", "", "", 0.4), Outcome("redis", "skip", "", "")])
        'survived: rollback in 0.4 s; skipped: redis'
    """
    passed = ", ".join(f"{o.name} in {o.recovery_s or 0:.1f} s" for o in outcomes if o.verdict == PASS)
    failed = ", ".join(f"{o.name} ({o.faults[0]})" for o in outcomes if o.verdict == FAIL)
    skipped = ", ".join(o.name for o in outcomes if o.verdict == SKIP)
    parts = (("survived", passed), ("not survived", failed), ("skipped", skipped))
    return "; ".join(f"{what}: {names}" for what, names in parts if names) or "nothing was rehearsed"


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """All that was done, expected and measured."""
    return [
        {
            "name": o.name,
            "verdict": o.verdict,
            "did": o.did,
            "expected": o.expected,
            "recovery_s": None if o.recovery_s is None else round(o.recovery_s, 3),
            "answers": dict(o.seen.answers),
            "errors": dict(o.seen.errors),
            "wrong": dict(o.seen.wrong),
            "outage_s": round(o.seen.outage_s, 3),
            "slowest_s": round(o.seen.slowest_s, 3),
            "faults": list(o.faults),
            "facts": dict(o.facts),
        }
        for o in outcomes
    ]


def as_table(outcomes: Sequence[Outcome]) -> Table:
    """For people."""
    from rich.table import Table
    from rich.text import Text

    table = Table("rehearsal", "done", "expected", "recovery", "answers", "errors", "wrong version", "", box=None)
    for o in outcomes:
        seen = o.seen
        counts = (f"{seen.answers.total():,}", f"{seen.errors.total():,}", f"{seen.wrong.total():,}")
        recovery = "–" if o.recovery_s is None else f"{o.recovery_s:.2f} s"
        shown = ("–",) * 4 if o.verdict == SKIP else (recovery, *counts)
        table.add_row(o.name, Text(o.did), Text(o.expected), *shown, _MARKS[o.verdict])
        for fault in o.faults:
            table.add_row("", Text(fault, style="" if o.verdict == SKIP else "red"))
    return table
