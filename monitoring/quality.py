"""Faults of the data themselves: no retrain cures them, so they call a person and block training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from core.clock import as_utc
from monitoring.calibration import distances
from monitoring.column_faults import find_column_faults
from monitoring.facts import Fault
from monitoring.label_counts import LabelCounts
from monitoring.label_faults import find_label_faults
from monitoring.profile import ReferenceProfile
from monitoring.window import WindowProfile

MIN_ROWS = 100
# Clocks of well kept machines agree to much less; what is logged is flushed much sooner.
_CLOCK = timedelta(seconds=60)
_LATE_S = 300.0
_GAPS = 3.0
_RARE = 0.001


def find_faults(
    reference: ReferenceProfile,
    window: WindowProfile,
    *,
    as_of: datetime,
    newest_event_at: Mapping[str, datetime] | None = None,
    usual_gap_s: Mapping[str, float] | None = None,
    labels: LabelCounts | None = None,
) -> tuple[Fault, ...]:
    """What is wrong with the data of a window.

    Args:
        reference: of the version that answered.
        window: of its predictions.
        as_of: the moment of the look.
        newest_event_at: of each event source, the time of its newest event.
        usual_gap_s: of each event source, the longest time between two events that is usual; that of the reference's
            rows where it is not given.
        labels: what came back.

    Returns:
        The faults, those of columns first.
    """
    found: tuple[Fault, ...] = ()
    if window.rows >= MIN_ROWS:
        compared = distances(reference, window, false_alarms=_RARE, min_rows=MIN_ROWS)
        found += find_column_faults(reference, window, compared)
        found += find_label_faults(reference, window, labels or LabelCounts())
    elif labels is not None:
        found += find_label_faults(reference, window, labels)
    return found + _late(reference, window, as_utc(as_of), newest_event_at or {}, usual_gap_s or {})


def _late(
    reference: ReferenceProfile,
    window: WindowProfile,
    as_of: datetime,
    newest: Mapping[str, datetime],
    gaps: Mapping[str, float],
) -> tuple[Fault, ...]:
    """Sources whose newest row is too old, or not yet possible."""
    seen = {"": datetime.fromtimestamp(window.to_us / 1e6, UTC)} if window.to_us is not None else {}
    found = []
    for source, at in {**seen, **newest}.items():
        what = f"event of {source}" if source else "prediction"
        at, usual_s = as_utc(at), gaps.get(source, reference.longest_gap_s)
        allowed_s = max(_GAPS * usual_s, _LATE_S)
        if at - as_of > _CLOCK:
            ahead = f"the newest {what} is {_minutes((at - as_of).total_seconds())} ahead of the look's clock"
            found.append(Fault(column=source, kind="clock", detail=ahead))
        elif (as_of - at).total_seconds() > allowed_s:
            old = (
                f"the newest {what} is {_minutes((as_of - at).total_seconds())} old, where the longest pause "
                f"so far was {_minutes(usual_s)}: nothing comes in, or its clock is behind"
            )
            found.append(Fault(column=source, kind="stale source", detail=old))
    return tuple(found)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
