"""What a person chose, and everything the use-case file declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import pandas as pd

from stack.scaffold.labels import LabelSource
from stack.scaffold.rhythm import Rhythm
from stack.scaffold.times import TimeSource


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a person decided; None: to be guessed.

    Args:
        time: the column of the question's moment, or several joined by ``+``.
        zone: IANA zone of times that name none.
        start: the moment of the first row, of a table whose rows are in order but have no time.
        step: time from one row to the next (or from one to the next number of `time`).
        label: the column of what came of it.
        positive: its value that counts as 1.
        above: numbers above it count as 1.
        label_time: the column of the moment at which the label became known.
        horizon: how long after the question the label is known at the latest.
        entities: columns that past outcomes are looked up by.
        request: columns that are known at request time although they look as if they were not.
        drop: columns to leave out.
    """

    time: str | None = None
    zone: str | None = None
    start: datetime | None = None
    step: timedelta | None = None
    label: str | None = None
    positive: str | None = None
    above: float | None = None
    label_time: str | None = None
    horizon: timedelta | None = None
    entities: tuple[str, ...] | None = None
    request: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """A field of the request, an entity or a field of events.

    Args:
        name: identifier.
        column: in the file.
        dtype: as of `core.use_case.Field`.
        nullable: whether the file has rows without it.
        example: a value that occurs.
        says: what it is.
        codes: texts that become a code, the most frequent first; empty for numbers.
        is_feature: whether the model sees its value, or its code.
        is_code: whether it is a code, not a quantity.
    """

    name: str
    column: str
    dtype: Literal["int", "float", "str"]
    nullable: bool
    example: int | float | str
    says: str = ""
    codes: tuple[str, ...] = ()
    is_feature: bool = True
    is_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """Everything that the file says.

    Args:
        name: of the use case.
        label: how it is read.
        label_name: identifier.
        question: one sentence.
        time: how the moment is read.
        label_time: how the moment of the label is read; None: `horizon` after the question.
        horizon: of the label.
        entities: at least one.
        request: further fields.
        values: numbers known with the label, averaged over the past.
        only_after: identifiers of columns known only with the label.
        left_out: columns that are not used, and why.
        renamed: identifiers of used columns that are called otherwise in the file.
        event_label: name of the label in events.
        has_hour: whether times of day differ.
        has_weekday: whether the first version sees every day of the week more than once, or nothing else.
        rhythm: windows, policy and replay.
        base_rate: share of ones.
        rows: with a time.
        labelled: rows with a time and a label.
        first: moment.
        last: moment.
        notes: what the person should know of how the table was read.
    """

    name: str
    label: LabelSource
    label_name: str
    question: str
    time: TimeSource
    label_time: TimeSource | None
    horizon: timedelta
    entities: tuple[Declared, ...]
    request: tuple[Declared, ...]
    values: tuple[Declared, ...]
    only_after: tuple[str, ...]
    left_out: dict[str, str]
    renamed: dict[str, str]
    event_label: str
    has_hour: bool
    has_weekday: bool
    rhythm: Rhythm
    base_rate: float
    rows: int
    labelled: int
    first: datetime
    last: datetime
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Reading:
    """How the rows of a table are read.

    Args:
        time: how the moment of a row is read.
        at: that moment, NaT where it cannot be read.
        label: how the label is read.
        outcome: 1, 0 or NaN.
        label_time: how the moment of the label is read; None: `Declaration.horizon` after the question.
        others: columns that hold other times.
    """

    time: TimeSource
    at: pd.Series
    label: LabelSource
    outcome: pd.Series
    label_time: TimeSource | None
    others: dict[str, TimeSource]
