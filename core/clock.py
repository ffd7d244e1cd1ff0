"""The source of "now"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells the time. Must return aware UTC datetimes that never go backwards."""

    def now(self) -> datetime:
        """The current moment, aware, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current moment, aware, UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved: for replays and tests.

    Example:
        >>> clock = ManualClock(datetime(2019, 2, 2, tzinfo=UTC))
        >>> clock.advance(timedelta(hours=3)).isoformat()
        '2019-02-02T03:00:00+00:00'
    """

    def __init__(self, start: datetime) -> None:
        self._now = as_utc(start)

    def now(self) -> datetime:
        """The moment it was last moved to, aware, UTC."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move forward by a non-negative duration and return the new now."""
        if by < timedelta(0):
            raise ValueError(f"a clock never goes backwards, got {by}")
        self._now += by
        return self._now


def as_utc(moment: datetime) -> datetime:
    """The same moment as an aware UTC datetime; a naive one is taken to be UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_us(moment: datetime) -> int:
    """Whole microseconds since 1970-01-01 UTC, exact (no float in between)."""
    return (as_utc(moment) - _EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """The moment `us` microseconds after 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=us)


def parse_moment(text: str) -> datetime:
    """Parse an ISO 8601 moment; without an offset it is UTC.

    Raises:
        ValueError: if the text is not ISO 8601.
    """
    return as_utc(datetime.fromisoformat(text))
