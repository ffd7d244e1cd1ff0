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
    labels: LabelCounts | None = None,
) -> tuple[Fault, ...]:
    """What is wrong with the data of a window.

    Args:
        reference: of the version that answered.
        window: of its predictions.
        as_of: the moment of the look.
        newest_event_at: of each event source, when its newest event became known; it is late if the pause is much
            longer than the reference's, and not judged where that is unknown.
        labels: what came back.

    Returns:
        The faults, those of columns first.
    """
    found: tuple[Fault, ...] = ()
    if window.rows >= MIN_ROWS:
        found += find_column_faults(
            reference, window, lambda: distances(reference, window, false_alarms=_RARE, min_rows=MIN_ROWS).columns
        )
        found += find_label_faults(reference, window, labels or LabelCounts())
    elif labels is not None:
        found += find_label_faults(reference, window, labels)
    return found + _late(reference, window, as_utc(as_of), newest_event_at or {})


def _late(
    reference: ReferenceProfile,
    window: WindowProfile,
    as_of: datetime,
    newest: Mapping[str, datetime],
) -> tuple[Fault, ...]:
    """Sources whose newest row is too old, or not yet possible."""
    seen = {"": datetime.fromtimestamp(window.to_us / 1e6, UTC)} if window.to_us is not None else {}
    found = []
    for source, at in {**seen, **newest}.items():
        what = f"event of {source}" if source else "prediction"
        at, usual_s = as_utc(at), reference.pauses_s.get(source) if source else reference.longest_gap_s
        if at - as_of > _CLOCK:
            ahead = f"the newest {what} is {_minutes((at - as_of).total_seconds())} ahead of the look's clock"
            found.append(Fault(column=source, kind="clock", detail=ahead))
        elif usual_s is not None and (as_of - at).total_seconds() > max(_GAPS * usual_s, _LATE_S):
            old = (
                f"the newest {what} is {_minutes((as_of - at).total_seconds())} old, where the longest pause "
                f"so far was {_minutes(usual_s)}: nothing comes in, or its clock is behind"
            )
            found.append(Fault(column=source, kind="stale source", detail=old))
    return tuple(found)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
