"""How the times of a table are read, as chosen or guessed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from stack.scaffold.columns import Column, texts
from stack.scaffold.declaration import Choices
from stack.scaffold.errors import TableError
from stack.scaffold.roles import guess_label_time
from stack.scaffold.times import TimeSource, chosen_time, guess_time, has_offsets, moments, require_column

_LEAST_READABLE, _SAMPLE = 0.5, 2000


def read_time(table: pd.DataFrame, columns: list[Column], chosen: Choices) -> TimeSource:
    """How the moment of a row is read."""
    if (chosen.start is None) != (chosen.step is None):
        raise TableError("--start and --step go together.", "Give both, or none.")
    if chosen.start is not None:
        named = (chosen.time,) if chosen.time else ()
        for column in named:
            require_column(column, {c.name: c for c in columns})
        return TimeSource("steps" if named else "order", named, start=chosen.start, step=chosen.step)
    found = chosen_time(table, columns, chosen.time) if chosen.time else guess_time(table, columns)
    return in_zone(table, found, chosen.zone)


def in_zone(table: pd.DataFrame, source: TimeSource, zone: str | None) -> TimeSource:
    """The same, read as local times of a zone, if its times name none themselves."""
    return replace(source, zone=zone) if zone and is_naive(table, source) else source


def check_times(at: pd.Series, time: TimeSource) -> None:
    """Raise TableError unless most rows have a time, and not all the same."""
    where = " + ".join(repr(c) for c in time.reads) or "the order of rows"
    readable = float(at.notna().mean())
    if readable < _LEAST_READABLE:
        raise TableError(
            f"Only {readable:.0%} of the rows have a time that can be read in {where}.",
            "Name another column with --time, or write its times as 2024-03-31T14:05:00Z.",
        )
    if at.nunique() < 2:
        raise TableError(
            f"All rows have the same time in {where}: {at.dropna().iloc[0]}.",
            "Name another column with --time; what came before and after must be known.",
        )


def read_label_time(
    table: pd.DataFrame, others: dict[str, TimeSource], at: pd.Series, outcome: pd.Series, chosen: Choices,
    columns: list[Column],
) -> TimeSource | None:  # fmt: skip
    """How the moment of the label is read; None if no column says it.

    Raises:
        TableError: if the chosen column holds none, or earlier ones.
    """
    if chosen.label_time is not None:
        source = others.get(chosen.label_time) or chosen_time(table, columns, chosen.label_time)
        source = in_zone(table, source, chosen.zone)
        gap = (moments(table, source) - at)[outcome.notna()]
        if not (gap >= pd.Timedelta(0)).mean() > 0.5:
            raise TableError(
                f"The label time {chosen.label_time!r} lies before the question's time, or is missing, in most rows.",
                "Name the column in which the label became known, or give --horizon instead.",
            )
        return source
    if chosen.horizon is not None:
        return None
    found = guess_label_time(table, others, at, outcome)
    return None if found is None else in_zone(table, others[found], chosen.zone)


def is_naive(table: pd.DataFrame, time: TimeSource) -> bool:
    """Whether its times name no zone."""
    if time.kind == "datetime":
        return table[time.columns[0]].dtype.kind == "M" and not isinstance(
            table[time.columns[0]].dtype, pd.DatetimeTZDtype
        )
    if time.kind == "text":
        return not has_offsets(texts(table[time.columns[0]].head(_SAMPLE)).dropna())
    return time.kind in ("digits", "parts")
