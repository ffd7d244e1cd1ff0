"""From a table and what a person said of it to everything the use-case file declares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

import pandas as pd

from stack.scaffold.columns import Column, describe, numbers, texts
from stack.scaffold.errors import TableError
from stack.scaffold.labels import LabelSource, check_outcomes, guess_label, label_source, outcomes
from stack.scaffold.leaks import leaks
from stack.scaffold.names import identifiers, unlike
from stack.scaffold.rhythm import Rhythm, find_rhythm, guess_delay, horizon_of
from stack.scaffold.roles import (
    MOST_CODES,
    check_entities,
    entity_candidates,
    guess_entities,
    guess_label_time,
    is_id,
    other_times,
    useless,
)
from stack.scaffold.times import TimeSource, chosen_time, guess_time, moments, require_column

SCOPE = "scope"
_LEAST_READABLE = 0.5
_MOST_VALUES = 2
_LONGEST_SHOWN = 70


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
    rhythm: Rhythm
    base_rate: float
    rows: int
    labelled: int
    first: datetime
    last: datetime
    notes: tuple[str, ...] = field(default=())


def declare(name: str, table: pd.DataFrame, choices: Choices | None = None) -> Declaration:
    """Decide what the use-case file says; what was not chosen is guessed.

    Args:
        name: of the use case, an identifier.
        table: as read.
        choices: what a person decided.

    Raises:
        TableError: naming the column at fault and the option that helps.
    """
    chosen = choices or Choices()
    columns = {str(c): describe(table[c]) for c in table.columns}
    for asked in (chosen.label, chosen.label_time, *(chosen.entities or ()), *chosen.request, *chosen.drop):
        if asked is not None:
            require_column(asked, columns)
    listed = [c for c in columns.values() if c.name not in chosen.drop]
    time = read_time(table, listed, chosen)
    at = moments(table, time)
    _check_times(at, time)
    label_column = columns[chosen.label or guess_label(table, listed, time.reads)]
    label = label_source(table, label_column, positive=chosen.positive, above=chosen.above)
    outcome = outcomes(table, label).where(at.notna())
    check_outcomes(label, outcome)
    others = other_times(table, listed, (*time.reads, label_column.name))
    label_time = _label_time(table, others, at, outcome, chosen, listed)
    left_out = dict.fromkeys(chosen.drop, "you said so")
    left_out |= useless(table, [c for c in listed if c.name not in (*time.reads, label_column.name)], at)
    late = {column: "it is a time" for column in others if column not in left_out}
    asked_for = set(chosen.request) | set(chosen.entities or ())
    usable = [
        c for c in listed
        if c.name != label_column.name and c.name not in time.reads and c.name not in left_out and c.name not in late
    ]  # fmt: skip
    leaking = {c: why for c, why in leaks(table, usable, label_column.name, outcome).items() if c not in asked_for}
    usable = [c for c in usable if c.name not in leaking]
    entities = chosen.entities if chosen.entities is not None else tuple(guess_entities(usable, len(table)))
    check_entities(entities, columns, len(table))
    return _assemble(
        name, table, columns, chosen,
        _Read(time, at, label, outcome, label_time, others), entities, usable, leaking, left_out | {
            c: f"{why}; make it a number in the file, such as days before the question, if it matters"
            for c, why in late.items() if label_time is None or c not in label_time.reads
        },
    )  # fmt: skip


@dataclass(frozen=True)
class _Read:
    time: TimeSource
    at: pd.Series
    label: LabelSource
    outcome: pd.Series
    label_time: TimeSource | None
    others: dict[str, TimeSource]


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
    return replace(source, zone=zone) if zone and _is_naive(table, source) else source


def _check_times(at: pd.Series, time: TimeSource) -> None:
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


def _label_time(
    table: pd.DataFrame, others: dict[str, TimeSource], at: pd.Series, outcome: pd.Series, chosen: Choices,
    columns: list[Column],
) -> TimeSource | None:  # fmt: skip
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


def _assemble(
    name: str, table: pd.DataFrame, columns: dict[str, Column], chosen: Choices, read: _Read, entities: tuple[str, ...],
    usable: list[Column], leaking: dict[str, str], left_out: dict[str, str],
) -> Declaration:  # fmt: skip
    label_time, outcome = read.label_time, read.outcome
    if label_time is not None:
        delay = (moments(table, label_time) - read.at)[outcome.notna()].dropna()
        horizon = chosen.horizon or horizon_of(delay[delay >= pd.Timedelta(0)])
    else:
        horizon = chosen.horizon or guess_delay(read.at)
    names = identifiers([str(c) for c in table.columns], taken=(name,))
    fields, left = _request_fields(table, usable, entities, names, chosen, set(entities))
    left_out = {c: why for c, why in left_out.items() if c not in entities} | left
    keys = tuple(
        _declared(table, columns[c], names, as_entity=True, is_feature=_tells(columns[c])) for c in entities
    ) or (_scope(names),)  # fmt: skip
    values = _values(table, columns, leaking, read, names)
    cut = "_above" if read.label.kind == "above" else ""
    event_label = unlike(names[read.label.column] + cut, {f.name for f in (*keys, *fields, *values)})
    order = read.at[read.at.notna()].sort_values(kind="stable").index
    counts = [texts(table[entity]).value_counts() for entity in entities] or [pd.Series([len(table)])]
    rhythm = find_rhythm(read.at[order], outcome[order], horizon, counts)
    used = {f.column for f in (*keys, *fields, *values)} | {read.label.column, *read.time.reads}
    used |= set(label_time.reads) if label_time else set()
    # names that are only listed need no place in the file
    renamed = {c: names[c] for c in table.columns if c in used and names[c] != c}
    late_columns = [*leaking, *(c for c in read.others if c not in chosen.drop)]
    return Declaration(
        name=name, label=read.label, label_name=names[read.label.column], question=_question(read.label),
        time=read.time, label_time=label_time, horizon=horizon, entities=keys, request=fields, values=values,
        only_after=_only_after(late_columns, read, names, keys, fields), left_out=leaking | left_out, renamed=renamed,
        event_label=event_label, has_hour=read.at.dropna().dt.hour.nunique() > 1, rhythm=rhythm,
        base_rate=float(outcome.mean()), rows=int(read.at.notna().sum()), labelled=int(outcome.notna().sum()),
        first=read.at.min().to_pydatetime(), last=read.at.max().to_pydatetime(),
        notes=tuple(_notes(table, columns, chosen, read, label_time, horizon, entities)),
    )  # fmt: skip


def _only_after(
    late: list[str], read: _Read, names: dict[str, str], keys: tuple[Declared, ...], fields: tuple[Declared, ...]
) -> tuple[str, ...]:
    asked = {f.name for f in (*keys, *fields)}
    found = [names[read.label.column], *(names[c] for c in late)]
    return tuple(name for name in dict.fromkeys(found) if name not in asked)


def _request_fields(
    table: pd.DataFrame, usable: list[Column], entities: tuple[str, ...], names: dict[str, str], chosen: Choices,
    keys: set[str],
) -> tuple[tuple[Declared, ...], dict[str, str]]:  # fmt: skip
    fields, left = [], {}
    for column in usable:
        if column.name in keys:
            continue
        if column.name not in chosen.request and is_id(column):
            left[column.name] = f"it is a number that names something: --entity '{column.name}' if its past matters"
        elif column.kind == "text" and column.distinct > MOST_CODES and column.name not in chosen.request:
            candidate = "" if column.name not in entity_candidates([column], len(table)) else (
                f": make it an entity with --entity '{column.name}' if past outcomes of the same one matter"
            )  # fmt: skip
            left[column.name] = f"it has {column.distinct} different texts{candidate}"
        else:
            fields.append(_declared(table, column, names))
    return tuple(fields), left


def _declared(
    table: pd.DataFrame, column: Column, names: dict[str, str], *, as_entity: bool = False, is_feature: bool = True
) -> Declared:
    name, says = names[column.name], ""
    if names[column.name] != column.name:
        says = f"column {column.name!r}"
    nullable = column.missing > 0
    if column.kind == "text" or (as_entity and nullable):
        common = texts(table[column.name]).value_counts()
        shown = [str(v) for v in common.index if len(str(v)) <= _LONGEST_SHOWN] or [
            str(common.index[0])[:_LONGEST_SHOWN]
        ]
        codes = tuple(shown[:MOST_CODES]) if is_feature else ()
        return Declared(name, column.name, "str", nullable, shown[0], says, codes, is_feature, True)
    if column.kind == "flag":
        says = f"{says}, 1 if true".removeprefix(", ")
        dtype: Literal["int", "float"] = "float" if nullable else "int"
        return Declared(name, column.name, dtype, nullable, 1, says, (), is_feature, True)
    is_int = column.is_whole and not nullable
    example = column.example
    if as_entity:
        example = int(numbers(table[column.name]).mode().iloc[0])
    return Declared(name, column.name, "int" if is_int else "float", nullable, example, says, (), is_feature, as_entity)


def _tells(column: Column) -> bool:
    """Whether the value of an entity is worth the model's attention, besides what happened to it."""
    return column.distinct <= (300 if column.kind == "number" and column.missing == 0 else MOST_CODES)


def _scope(names: dict[str, str]) -> Declared:
    name = unlike(SCOPE, names.values())
    return Declared(name, "", "str", False, "all", "always the same: no column is a key", (), False, True)


def _values(
    table: pd.DataFrame, columns: dict[str, Column], leaking: dict[str, str], read: _Read, names: dict[str, str]
) -> tuple[Declared, ...]:
    """Numbers known with the label, worth averaging: the one it was cut from first."""
    wanted = [read.label.column] if read.label.kind == "above" and columns[read.label.column].distinct > 2 else []
    wanted += [c for c in leaking if columns[c].kind == "number" and columns[c].distinct > 20]
    return tuple(
        replace(_declared(table, columns[c], names), dtype="float", nullable=True, is_code=False)
        for c in dict.fromkeys(wanted)
    )[:_MOST_VALUES]


def _question(label: LabelSource) -> str:
    if label.kind == "above":
        return f"Will {label.column} be above {label.value:g}?"
    value = f"{label.value:g}" if isinstance(label.value, float) else label.value
    return f"Will {label.column} be {value}?"


def _notes(
    table: pd.DataFrame, columns: dict[str, Column], chosen: Choices, read: _Read, label_time: TimeSource | None,
    horizon: timedelta, entities: tuple[str, ...],
) -> list[str]:  # fmt: skip
    found = []
    unread = int(read.at.isna().sum())
    if unread:
        found.append(f"{unread:,} rows have no time that can be read: they are left out.")
    if _is_naive(table, read.time) and not chosen.zone:
        found.append("Its times name no zone and are read as UTC; --timezone Europe/Berlin says otherwise.")
    if label_time is None and chosen.horizon is None:
        found.append(
            f"No column says when the label was known: it is taken to be {_words(horizon)} after the question "
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


def _is_naive(table: pd.DataFrame, time: TimeSource) -> bool:
    if time.kind == "datetime":
        return table[time.columns[0]].dtype.kind == "M" and not isinstance(
            table[time.columns[0]].dtype, pd.DatetimeTZDtype
        )
    if time.kind == "text":
        from stack.scaffold.times import has_offsets

        return not has_offsets(texts(table[time.columns[0]].head(2000)).dropna())
    return time.kind in ("digits", "parts")


def _words(span: timedelta) -> str:
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        count = span.total_seconds() / size
        if count >= 1:
            return f"{count:g} {unit}{'s' if count != 1 else ''}"
    return f"{span.total_seconds():g} seconds"
