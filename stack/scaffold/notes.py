"""What the person should know of how a table was read."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from stack.scaffold.columns import Column
from stack.scaffold.declaration import Choices, Reading
from stack.scaffold.labels import LabelSource
from stack.scaffold.reading import is_naive
from stack.scaffold.times import TimeSource


def question(label: LabelSource) -> str:
    """What is asked, as a sentence."""
    if label.kind == "above":
        return f"Will {label.column} be above {label.value:g}?"
    value = f"{label.value:g}" if isinstance(label.value, float) else label.value
    return f"Will {label.column} be {value}?"


def notes(
    table: pd.DataFrame, columns: dict[str, Column], chosen: Choices, read: Reading, label_time: TimeSource | None,
    horizon: timedelta, entities: tuple[str, ...],
) -> list[str]:  # fmt: skip
    """What was read otherwise than one might think, as sentences."""
    found = []
    unread = int(read.at.isna().sum())
    if unread:
        found.append(f"{unread:,} rows have no time that can be read: they are left out.")
    if is_naive(table, read.time) and not chosen.zone:
        found.append("Its times name no zone and are read as UTC; --timezone Europe/Berlin says otherwise.")
    if label_time is None and chosen.horizon is None:
        found.append(
            f"No column says when the label was known: it is taken to be {words_of(horizon)} after the question "
            "(--horizon)."
        )
    if not entities:
        found.append("No column looks like a key (--entity): past outcomes are counted over all rows together.")
    missing = int((read.outcome.isna() & read.at.notna()).sum())
    if missing:
        found.append(f"{missing:,} rows have no label: they are asked about and never answered.")
    mixed = [f"{c.name!r} ({c.unread:,})" for c in columns.values() if c.unread and c.kind == "number"]
    if mixed:
        found.append(f"Values that are no numbers count as missing in: {', '.join(mixed[:5])}.")
    mixed = [f"{c.name!r}" for c in columns.values() if c.unread and c.kind == "text"]
    if mixed:
        found.append(f"Numbers and texts are mixed, and all are read as text, in: {', '.join(mixed[:5])}.")
    return found


def words_of(span: timedelta) -> str:
    """A span of time for people.

    Example:
        >>> words_of(timedelta(hours=36)), words_of(timedelta(minutes=1))
        ('1.5 days', '1 minute')
    """
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        count = span.total_seconds() / size
        if count >= 1:
            return f"{count:g} {unit}{'s' if count != 1 else ''}"
    return f"{span.total_seconds():g} seconds"
