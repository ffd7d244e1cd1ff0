"""Numbers and moments as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

NONE = "–"
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def moment(at: datetime | None) -> str:
    """A moment in UTC.

    Example:
        >>> moment(datetime(2019, 2, 3, 10, 5, tzinfo=UTC))
        '2019-02-03 10:05 UTC'
    """
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at is not None else NONE


def ago(at: datetime | None, now: datetime) -> str:
    """How far a moment is away.

    Example:
        >>> now = datetime(2019, 2, 3, 10, 5, tzinfo=UTC)
        >>> ago(now - timedelta(minutes=7), now), ago(now + timedelta(hours=50), now), ago(now, now)
        ('7 min ago', 'in 2 d', 'just now')
    """
    if at is None:
        return NONE
    seconds = (now - at).total_seconds()
    if abs(seconds) < 5:
        return "just now"
    told = span(abs(seconds))
    return f"{told} ago" if seconds > 0 else f"in {told}"


def span(seconds: float | None) -> str:
    """A duration in its largest unit.

    Example:
        >>> span(40), span(200), span(7300), span(None)
        ('40 s', '3 min', '2 h', '–')
    """
    if seconds is None:
        return NONE
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{math.floor(seconds / size + 0.5)} {unit}"
    return f"{math.floor(seconds + 0.5)} s"


def seconds(value: float | None) -> str:
    """A duration that was measured.

    Example:
        >>> seconds(0.0123), seconds(4.26), seconds(125), seconds(None)
        ('12 ms', '4.3 s', '2 min 5 s', '–')
    """
    if value is None:
        return NONE
    if value < 0.001:
        return f"{1e3 * value:.1f} ms" if value else "0 s"
    if value < 1:
        return f"{1e3 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of one.

    Example:
        >>> percent(0.1234), percent(1.0), percent(0.0), percent(0.00001)
        ('12.3 %', '100 %', '0 %', '< 0.1 %')
    """
    if share is None:
        return NONE
    least = 10.0**-digits
    if 0 < 100 * share < least:
        return f"< {least:g} %"
    return f"{f'{100 * share:.{digits}f}'.removesuffix('.' + digits * '0')} %"


def number(value: float | None, digits: int = 4) -> str:
    """A measured number.

    Example:
        >>> number(0.59871), number(None)
        ('0.5987', '–')
    """
    return NONE if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """How many.

    Example:
        >>> count(12345), count(None)
        ('12,345', '–')
    """
    return NONE if value is None else f"{value:,.0f}"
