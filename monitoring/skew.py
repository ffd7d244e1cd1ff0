"""Whether served features are those the log gives: a pure function of an audit."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from core.decision import Decision

if TYPE_CHECKING:
    from features.offline.audit import AuditReport

ALARM = "alarm"


def judge_audit(report: AuditReport) -> Decision:
    """Decide what an audit means.

    Returns:
        Action ``pass`` with evidence ``rows``, those compared; or ``alarm`` with evidence ``features``: per feature
        that differs in how many rows (``mismatches``) and by how much at most (``largest_difference``, None if one
        side is no number), the most first.
    """
    differing = {name: n for name, n in report.mismatches.items() if n}
    if not differing:
        return Decision("pass", f"{report.rows} served feature vectors agree with the log", {"rows": report.rows})
    order = sorted(differing, key=lambda name: (-differing[name], name))
    gaps = report.largest_difference
    features = {
        name: {"mismatches": differing[name], "largest_difference": gaps[name] if isfinite(gaps[name]) else None}
        for name in order
    }
    first = ", ".join(f"{name} in {differing[name]}" for name in order[:3])
    more = f" and {len(order) - 3} more" if len(order) > 3 else ""
    reason = f"served features differ from the log: of {report.rows} audited vectors {first}{more}"
    return Decision(ALARM, reason, {"rows": report.rows, "features": features})
