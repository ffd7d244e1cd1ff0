"""Where things lie in a chart: drawn as SVG by the templates, which say it in a table as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_TICKS = 4
_LEAST_GAP = 8.0  # percent of the width between two names


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value at a moment, with the bounds it lies between.

    Args:
        at: when.
        value: measured.
        low: lower bound; None if it is not known.
        high: upper bound.
        title: what is said of it.
    """

    at: datetime
    value: float
    low: float | None = None
    high: float | None = None
    title: str = ""


@dataclass(frozen=True)
class Dot:
    """A point in percent of the width and of the height, from the upper left corner."""

    x: float
    y: float
    title: str
    y_low: float | None = None
    y_high: float | None = None


@dataclass(frozen=True)
class Mark:
    """A moment with a name; the name is empty where it would lie over another."""

    x: float
    name: str


@dataclass(frozen=True)
class Chart:
    """A line with its bounds.

    Args:
        dots: the points.
        line: their path, in a square of 100.
        band: the area between the bounds, likewise; empty without bounds.
        reference: steps of what the line is compared with, likewise.
        marks: moments at which something happened.
        y_labels: from the top to the bottom, evenly spaced.
        x_labels: from left to right, evenly spaced.
    """

    dots: tuple[Dot, ...]
    line: str
    band: str
    reference: str
    marks: tuple[Mark, ...]
    y_labels: tuple[str, ...]
    x_labels: tuple[str, ...]


def line_chart(
    points: Sequence[Point], references: Sequence[tuple[datetime, float]], marks: Sequence[tuple[datetime, str]]
) -> Chart | None:
    """A chart of values over time.

    Args:
        points: the oldest first.
        references: a value that counts from a moment on, the oldest first.
        marks: moments and their names, the oldest first.

    Returns:
        None of fewer than two points, which make no line.
    """
    if len(points) < 2:
        return None
    begin, end = points[0].at, points[-1].at
    if begin >= end:
        return None
    values = [value for p in points for value in (p.value, p.low, p.high) if value is not None]
    low, high = _bounds([*values, *(value for at, value in references if at <= end)])

    def x(at: datetime) -> float:
        return round(100 * (at - begin) / (end - begin), 2)

    def y(value: float) -> float:
        return round(100 * (high - value) / (high - low), 2)

    bounded = [p for p in points if p.low is not None and p.high is not None]
    return Chart(
        dots=tuple(
            Dot(x(p.at), y(p.value), p.title, *(None if bound is None else y(bound) for bound in (p.low, p.high)))
            for p in points
        ),
        line=_path([(x(p.at), y(p.value)) for p in points]),
        band=_path([
            *((x(p.at), y(p.high)) for p in bounded if p.high is not None),
            *((x(p.at), y(p.low)) for p in reversed(bounded) if p.low is not None),
        ]),
        reference=_steps([(x(max(at, begin)), y(value)) for at, value in references if at <= end]),
        marks=_marks([(x(at), name) for at, name in marks if begin <= at <= end]),
        y_labels=tuple(f"{high - i * (high - low) / _TICKS:.{_digits(high - low)}f}" for i in range(_TICKS + 1)),
        x_labels=tuple(_day(begin + i * (end - begin) / 2, end - begin) for i in range(3)),
    )  # fmt: skip


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Round bounds around values."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    step = 10.0 ** math.floor(math.log10(high - low + 2 * room)) / 2
    return math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step


def _digits(height: float) -> int:
    return max(0, 2 - math.floor(math.log10(height)))


def _day(at: datetime, length: object) -> str:
    return f"{at:%Y-%m-%d}" if str(length).find("day") >= 0 else f"{at:%H:%M}"


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in corners) if corners else ""


def _steps(corners: Sequence[tuple[float, float]]) -> str:
    if not corners:
        return ""
    first, *rest = corners
    return f"M{first[0]:g} {first[1]:g}" + "".join(f" H{x:g} V{y:g}" for x, y in rest) + " H100"


def _marks(found: Sequence[tuple[float, str]]) -> tuple[Mark, ...]:
    named: list[Mark] = []
    last = -math.inf
    for x, name in found:
        is_free = x - last >= _LEAST_GAP
        named.append(Mark(x, name if is_free else ""))
        last = x if is_free else last
    return tuple(named)
