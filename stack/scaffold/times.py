"""When rows happened: which columns say so, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from stack.scaffold.columns import Column, numbers, texts
from stack.scaffold.errors import TableError

TimeKind = Literal["datetime", "text", "epoch", "digits", "parts", "order", "steps"]

_READABLE, _SAMPLE = 0.98, 2000
_UNITS = (("s", 6.0e8, 5.0e9), ("ms", 6.0e11, 5.0e12), ("us", 6.0e14, 5.0e15), ("ns", 6.0e17, 5.0e18))
_DAYS = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d %b %Y", "%b %d %Y", "%b %d, %Y",
    "%d-%b-%Y", "%d %B %Y", "%B %d, %Y", "%m/%d/%y", "%d/%m/%y",
)  # fmt: skip
_DIGITS = {8: ("%Y%m%d", "%y%m%d%H"), 10: ("%Y%m%d%H",), 12: ("%Y%m%d%H%M",), 14: ("%Y%m%d%H%M%S",)}
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")
_MONTHS = ("%b-%Y", "%b %Y", "%B %Y", "%m/%Y", "%b-%y")
FORMATS = ("ISO8601", *(day + clock for day in _DAYS for clock in _CLOCKS), *_MONTHS)
_ASKED_NAMES = re.compile(
    r"(^|_)(timestamp|time|datetime|date|ts|at|when|created|event|start|opened|pickup|day|dt)(_|$)"
)
_HOURS = ("hour", "hr", "hours", "stunde")
_PARTS = {"year": ("year", "yr", "yyyy"), "month": ("month", "mnth", "mon", "mm"), "day": ("day", "dd", "mday")}
_MINUTES = ("minute", "min", "minutes")


@dataclass(frozen=True)
class TimeSource:
    """How the moment of a row is read.

    Args:
        kind: ``datetime`` column; ``text`` in a format; ``epoch`` number; ``digits``, as 20240331; ``parts``, a column
            each for year, month, day and maybe hour and minute; ``order``, the number of the row times a step;
            ``steps``, a column's number times a step.
        columns: which columns it is read from; none for ``order``.
        form: the format of text or digits, or the unit of an epoch.
        hour: a column of whole hours, 0 to 23, to be added; None if there is none.
        zone: IANA zone of times that name none; None: they are UTC.
        start: for ``order`` and ``steps``, the moment of number 0.
        step: for ``order`` and ``steps``, time from one number to the next.
    """

    kind: TimeKind
    columns: tuple[str, ...] = ()
    form: str = ""
    hour: str | None = None
    zone: str | None = None
    start: datetime | None = None
    step: timedelta | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column it needs."""
        return self.columns + ((self.hour,) if self.hour else ())


def moments(table: pd.DataFrame, source: TimeSource) -> pd.Series:
    """The moment of every row as datetime64[us, UTC], NaT where it cannot be read."""
    found = _read(table, source)
    if source.hour:
        found = found + pd.to_timedelta(numbers(table[source.hour]), unit="h")
    zone = source.zone or "UTC"
    if found.dt.tz is None:
        found = found.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    in_utc: pd.Series = found.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    return in_utc


def _read(table: pd.DataFrame, source: TimeSource) -> pd.Series:
    if source.kind in ("order", "steps"):
        assert source.start is not None and source.step is not None
        count = numbers(table[source.columns[0]]) if source.columns else pd.Series(np.arange(len(table)), table.index)
        elapsed = pd.to_timedelta(count * source.step.total_seconds() * 1e6, unit="us")
        found: pd.Series = elapsed + pd.Timestamp(source.start)
        return found
    if source.kind == "parts":
        names = ("year", "month", "day", "hour", "minute")
        parts = {name: numbers(table[column]) for name, column in zip(names, source.columns, strict=False)}
        return pd.to_datetime(pd.DataFrame(parts), errors="coerce")
    values = table[source.columns[0]]
    if source.kind == "datetime":
        return pd.to_datetime(values)
    if source.kind == "epoch":
        unit: Any = source.form
        return pd.to_datetime(numbers(values), unit=unit, utc=True, errors="coerce")
    if source.kind == "digits":
        return pd.to_datetime(texts(numbers(values)), format=source.form, errors="coerce")
    read: pd.Series = pd.to_datetime(texts(values), format=source.form, errors="coerce", utc=_has_offsets(values))
    return read


def _has_offsets(values: pd.Series) -> bool:
    return has_offsets(texts(values.head(_SAMPLE)).dropna())


def has_offsets(some: pd.Series) -> bool:
    """Whether texts of times say their distance from UTC."""
    return bool(len(some)) and bool(some.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$", regex=True).mean() > 0.5)


def time_source(values: pd.Series, column: Column) -> TimeSource | None:
    """How a column is read as times; None if it holds none."""
    name = column.name
    if column.kind == "time":
        return TimeSource("datetime", (name,))
    if (column.kind == "number" and column.is_whole) or (column.kind == "number" and _ASKED_NAMES.search(_snake(name))):
        return _of_numbers(numbers(values).dropna(), name, column)
    if column.kind == "text" and column.distinct > 1:
        return _of_texts(texts(values).dropna(), name)
    return None


def _of_numbers(present: pd.Series, name: str, column: Column) -> TimeSource | None:
    if column.distinct < 2:
        return None
    digits = _of_digits(present.astype("int64"), name) if column.is_whole else None
    if digits is not None:
        return digits
    for unit, low, high in _UNITS:
        # a name that speaks of time, or values that rise: other large numbers are ids
        if present.between(low, high).mean() >= _READABLE:
            hinted = bool(_ASKED_NAMES.search(_snake(name))) or present.is_monotonic_increasing
            return TimeSource("epoch", (name,), unit) if hinted else None
    return None


def _of_digits(present: pd.Series, name: str) -> TimeSource | None:
    """Numbers such as 20240331, 24033114 or 202403311405."""
    some = present.iloc[:: max(1, len(present) // _SAMPLE)].astype(str)
    if not some.str.len().isin(_DIGITS.keys()).all():
        return None
    for form in _DIGITS[int(some.str.len().iloc[0])]:
        read = pd.to_datetime(some, format=form, errors="coerce")
        if (read.notna() & read.dt.year.between(1970, 2060)).mean() >= _READABLE:
            return TimeSource("digits", (name,), form)
    return None


def _of_texts(present: pd.Series, name: str) -> TimeSource | None:
    some = present.iloc[:: max(1, len(present) // _SAMPLE)]
    if not some.str.contains(r"\d").mean() > _READABLE or some.str.len().median() < 6:
        return None
    found: dict[str, tuple[float, timedelta]] = {}
    for form in FORMATS:
        read = pd.to_datetime(some, format=form, errors="coerce", utc=True)
        if (read.notna() & read.dt.year.between(1900, 2100)).mean() >= _READABLE:
            found[form] = (-_forward(read), read.max() - read.min())
            if form == "ISO8601":
                break
    # day first or month first, where both fit: in which rows go forward, and else, in which they lie closer together
    best = min(found, key=lambda form: found[form], default=None)
    return TimeSource("text", (name,), best) if best else None


def _forward(read: pd.Series) -> float:
    steps = read.diff().dropna()
    return float((steps >= timedelta(0)).mean()) if len(steps) else 1.0


def guess_time(table: pd.DataFrame, columns: Sequence[Column]) -> TimeSource:
    """The columns that most likely say when the question of a row was asked.

    Raises:
        TableError: if no column holds times.
    """
    found = {c.name: source for c in columns if (source := time_source(table[c.name], c)) is not None}
    if not found:
        parts = _parts(columns)
        if parts is not None:
            return parts
        raise TableError(
            f"No column holds times, of {_named([c.name for c in columns])}.",
            "Name one with --time COLUMN; or, if rows are in the order of time, say when the first was and how much "
            "time passes from one to the next: --start 2024-01-01 --step 5min.",
        )
    read = {name: moments(table, source) for name, source in found.items()}
    full = {name: values for name, values in read.items() if values.nunique() > 1} or read
    best = max(full, key=lambda name: _asked_score(name, full, columns))
    return with_hour(table, found[best], read[best], columns)


def with_hour(table: pd.DataFrame, source: TimeSource, read: pd.Series, columns: Sequence[Column]) -> TimeSource:
    """The same, joined by the column of hours that goes with dates alone, if there is one."""
    if source.hour or not is_date_only(read):
        return source
    for column in columns:
        if _snake(column.name) in _HOURS and column.is_whole and numbers(table[column.name]).between(0, 23).all():
            return replace(source, hour=column.name)
    return source


def is_date_only(read: pd.Series) -> bool:
    """Whether all moments are at the same time of day."""
    present = read.dropna()
    return bool((present.dt.normalize() == present).all())


def _asked_score(name: str, read: Mapping[str, pd.Series], columns: Sequence[Column]) -> tuple[float, ...]:
    values = read[name]
    missing = next(c.missing for c in columns if c.name == name)
    hint = 1.0 if _ASKED_NAMES.search(_snake(name)) else 0.0
    born = 1.0 if re.search(r"birth|born|dob|expir|valid_|due", _snake(name)) else 0.0
    earlier = float(np.mean([(values <= other).mean() for other in read.values()]))
    fine = 0.0 if is_date_only(values) else 1.0
    return (-born, -round(missing, 1), fine, round(earlier, 2), hint, _forward(values))


def _parts(columns: Sequence[Column]) -> TimeSource | None:
    by_name = {_snake(c.name): c.name for c in columns if c.is_whole}
    found = [next((by_name[n] for n in names if n in by_name), None) for names in _PARTS.values()]
    if None in found:
        return None
    hour = next((by_name[n] for n in _HOURS if n in by_name), None)
    minute = next((by_name[n] for n in _MINUTES if n in by_name), None) if hour else None
    return TimeSource("parts", tuple(name for name in (*found, hour, minute) if name is not None))


def chosen_time(table: pd.DataFrame, columns: Sequence[Column], asked: str) -> TimeSource:
    """The columns a person named: one, or several joined by ``+``: a date and an hour, or year, month, day, ….

    Raises:
        TableError: if one is not there, or holds no times.
    """
    by_name = {c.name: c for c in columns}
    if asked in by_name:
        source = time_source(table[asked], by_name[asked])
        if source is None:
            some = ", ".join(repr(v) for v in table[asked].dropna().head(3).tolist()) or "nothing"
            raise TableError(
                f"The column {asked!r} cannot be read as times: it holds {some}.",
                f"Name another with --time, write its times as 2024-03-31T14:05:00Z, or, if it counts units of time, "
                f"say of what: --time '{asked}' --start 2024-01-01 --step 1h.",
            )
        return with_hour(table, source, moments(table, source), columns)
    names = [part.strip() for part in asked.split("+")]
    for name in names:
        require_column(name, by_name)
    if len(names) == 2:
        first = time_source(table[names[0]], by_name[names[0]])
        if first is None:
            raise TableError(f"The column {names[0]!r} holds no dates.", "Name a column of dates and one of hours.")
        return replace(first, hour=names[1])
    return TimeSource("parts", tuple(names))


def require_column(name: str, known: Mapping[str, object]) -> None:
    """Raise TableError unless the table has the column."""
    if name not in known:
        raise TableError(f"There is no column {name!r}.", f"The table has: {_named(list(known))}.")


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).strip("_")
