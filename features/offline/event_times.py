"""When events of a source became known: the newest, and the longest pause; moments are read a day at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.clock import MICROSECOND, as_utc, from_us, to_us
from features.offline.log import OfflineLog

Ints = npt.NDArray[np.int64]
_DAY = timedelta(days=1)


def newest_event_at(log: OfflineLog, source: str, *, known_by: datetime) -> datetime | None:
    """When the newest event of a source became known, of those known by a moment; None if there is none."""
    for day in reversed(log.event_days(source, until=known_by)):
        known_us = _known_us(log, source, day, min(day + _DAY, as_utc(known_by) + MICROSECOND))
        if known_us.size:
            return from_us(int(known_us.max()))
    return None


def longest_pause_s(log: OfflineLog, source: str, since: datetime, until: datetime) -> float | None:
    """The longest time in [since, until) in which no event of a source became known; None if none did at all."""
    days = log.event_days(source, since=since, until=until)
    return pause_within(
        since,
        until,
        (np.sort(_known_us(log, source, max(day, as_utc(since)), min(day + _DAY, as_utc(until)))) for day in days),
    )


def pause_within(since: datetime, until: datetime, parts: Iterable[Ints]) -> float | None:
    """The longest time between two moments of a span, its ends included, in seconds; None without any but these.

    The ends count, for events that came all at once would else seem to come without a pause.

    Args:
        since: when it begins.
        until: when it ends.
        parts: microseconds since 1970, rising, one part after the other.
    """
    last, longest = to_us(since), None
    for part in parts:
        if part.size:
            longest = max(longest or 0, int(np.diff(np.append(last, part)).max()))
            last = int(part[-1])
    return None if longest is None else max(longest, to_us(until) - last) / 1e6


def _known_us(log: OfflineLog, source: str, since: datetime, until: datetime) -> Ints:
    if to_us(since) >= to_us(until):
        return np.zeros(0, dtype=np.int64)
    table = log.event_table(source, columns=["known_at"], since=since, until=until)
    if not table.num_rows:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(table["known_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
