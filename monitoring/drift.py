"""What has moved since a version was made: inputs, scores, labels, or what the inputs say of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from core.policy import DriftPolicy
from monitoring.calibration import Distance, distances, kind_of
from monitoring.calling import call, rank
from monitoring.facts import ColumnDrift, DriftFacts
from monitoring.profile import EVERYWHERE, ReferenceProfile
from monitoring.window import WindowProfile

MIN_ROWS = 100


def find_drift(
    reference: ReferenceProfile, windows: Sequence[WindowProfile], policy: DriftPolicy, *, min_rows: int = MIN_ROWS
) -> DriftFacts:
    """Compare the newest window with the reference, and say what is called by the newest windows together.

    Args:
        reference: of the version that answered.
        windows: profiles of its predictions, the newest last; they should not overlap.
        policy: what counts as drift.
        min_rows: fewest rows for a column of a segment to be compared.

    Returns:
        What is over its threshold in the newest window, the most important first, and which kinds are called.
    """
    if not windows:
        return DriftFacts(rows=0, columns=0)
    found = [_find(reference, window, policy, min_rows) for window in windows]
    return call(found, policy, reference.importance)


def _find(reference: ReferenceProfile, window: WindowProfile, policy: DriftPolicy, min_rows: int) -> DriftFacts:
    """What one window shows."""
    if window.rows < min_rows:
        return DriftFacts(rows=window.rows, columns=0)
    measured = distances(reference, window, false_alarms=policy.false_alarms, min_rows=min_rows)
    everywhere = [found for found in measured.columns if found.segment == EVERYWHERE]
    return DriftFacts(
        rows=window.rows,
        columns=len(measured.columns),
        over=rank([_column_drift(reference, found, policy) for found in measured.columns if _is_over(found, policy)]),
        scores={found.column: round(abs(found.score), 2) for found in everywhere},
        effects={found.column: round(found.value, 4) for found in everywhere},
        limit=round(measured.limit, 2),
        alike=round(measured.alike, 2),
    )


def _is_over(found: Distance, policy: DriftPolicy) -> bool:
    return found.over and found.value > policy.min_effect


def _column_drift(reference: ReferenceProfile, found: Distance, policy: DriftPolicy) -> ColumnDrift:
    return ColumnDrift(
        column=found.column,
        kind=kind_of(found.column),
        effect=found.value,
        threshold=max(found.threshold, policy.min_effect),
        importance=reference.importance.get(found.column, 0.0),
        segment=found.segment,
        score=round(found.score, 2),
    )
