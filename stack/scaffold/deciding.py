"""From a table and what a person said of it to everything the use-case file declares."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from stack.scaffold.columns import Column, describe, texts
from stack.scaffold.declaration import Choices, Declaration, Declared, Reading
from stack.scaffold.errors import TableError
from stack.scaffold.fields import declared_field, late_values, request_fields, scope, tells
from stack.scaffold.labels import check_outcomes, guess_label, label_source, outcomes
from stack.scaffold.leaks import leaks
from stack.scaffold.names import identifiers, unlike
from stack.scaffold.notes import notes, question
from stack.scaffold.reading import check_times, read_label_time, read_time
from stack.scaffold.rhythm import find_rhythm, guess_delay, horizon_of
from stack.scaffold.roles import check_entities, guess_entities, other_times, useless
from stack.scaffold.times import TimeSource, moments, require_column

_TWO_WEEKS = timedelta(days=14)


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
    check_times(at, time)
    label_column = columns[chosen.label or guess_label(table, listed, time.reads)]
    try:
        label = label_source(table, label_column, positive=chosen.positive, above=chosen.above)
    except TableError as error:
        if chosen.label is not None:
            raise
        raise TableError(error.problem, f"{error.remedy} Or name another column with --label.") from error
    outcome = outcomes(table, label).where(at.notna())
    check_outcomes(label, outcome)
    others = other_times(table, listed, (*time.reads, label_column.name))
    label_time = read_label_time(table, others, at, outcome, chosen, listed)
    asked_for = set(chosen.request) | set(chosen.entities or ())
    _check_asked(chosen, label_column.name, others, columns)
    left_out = dict.fromkeys(chosen.drop, "you said so")
    left_out |= {
        c: why
        for c, why in useless(table, [c for c in listed if c.name not in (*time.reads, label_column.name)], at).items()
        if c not in asked_for
    }
    late = {column: "it is a time" for column in others if column not in left_out}
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
        Reading(time, at, label, outcome, label_time, others), entities, usable, leaking, left_out | {
            c: f"{why}; make it a number in the file, such as days before the question, if it matters"
            for c, why in late.items() if label_time is None or c not in label_time.reads
        },
    )  # fmt: skip


def _check_asked(chosen: Choices, label: str, others: dict[str, TimeSource], columns: dict[str, Column]) -> None:
    """Raise TableError for a column that no client can send."""
    for name in (*chosen.request, *(chosen.entities or ())):
        if name == label:
            raise TableError(f"The column {name!r} is the label.", "A client cannot know it: name another column.")
        if name in others or columns[name].kind in ("time", "nothing") or columns[name].distinct == 0:
            raise TableError(
                f"The column {name!r} holds times, lists or nothing, which no request can hold.",
                "Make it a number in the file, such as days before the question.",
            )


def _assemble(
    name: str, table: pd.DataFrame, columns: dict[str, Column], chosen: Choices, read: Reading,
    entities: tuple[str, ...], usable: list[Column], leaking: dict[str, str], left_out: dict[str, str],
) -> Declaration:  # fmt: skip
    label_time, outcome = read.label_time, read.outcome
    if label_time is not None:
        delay = (moments(table, label_time) - read.at)[outcome.notna()].dropna()
        horizon = chosen.horizon or horizon_of(delay[delay >= pd.Timedelta(0)])
    else:
        horizon = chosen.horizon or guess_delay(read.at)
    names = identifiers([str(c) for c in table.columns], taken=(name,))
    fields, left = request_fields(table, usable, entities, names, chosen, set(entities))
    left_out = {c: why for c, why in left_out.items() if c not in entities} | left
    keys = tuple(
        declared_field(table, columns[c], names, as_entity=True, is_feature=tells(columns[c])) for c in entities
    ) or (scope(names),)  # fmt: skip
    values = late_values(table, columns, leaking, read, names)
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
    has_hour = read.at.dropna().dt.hour.nunique() > 1
    sees_all_days = rhythm.first_training - rhythm.start >= _TWO_WEEKS
    asks_nothing = not (has_hour or any(f.is_feature for f in (*keys, *fields)))
    return Declaration(
        name=name, label=read.label, label_name=names[read.label.column], question=question(read.label),
        time=read.time, label_time=label_time, horizon=horizon, entities=keys, request=fields, values=values,
        only_after=_only_after(late_columns, read, names, keys, fields), left_out=leaking | left_out, renamed=renamed,
        event_label=event_label, has_hour=has_hour, has_weekday=sees_all_days or asks_nothing, rhythm=rhythm,
        base_rate=float(outcome.mean()), rows=int(read.at.notna().sum()), labelled=int(outcome.notna().sum()),
        first=read.at.min().to_pydatetime(), last=read.at.max().to_pydatetime(),
        notes=tuple(notes(table, columns, chosen, read, label_time, horizon, entities)),
    )  # fmt: skip


def _only_after(
    late: list[str], read: Reading, names: dict[str, str], keys: tuple[Declared, ...], fields: tuple[Declared, ...]
) -> tuple[str, ...]:
    asked = {f.name for f in (*keys, *fields)}
    found = [names[read.label.column], *(names[c] for c in late)]
    return tuple(name for name in dict.fromkeys(found) if name not in asked)
