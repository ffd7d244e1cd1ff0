"""What ``evergreen new`` asks on a terminal; a bare Enter takes the guess."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import typer

from stack.commands.console import out
from stack.scaffold.columns import Column, describe
from stack.scaffold.declaration import Choices
from stack.scaffold.errors import TableError
from stack.scaffold.labels import guess_label, label_source, suggested_positive
from stack.scaffold.reading import read_time
from stack.scaffold.roles import guess_entities, useless
from stack.scaffold.times import moments


def ask(table: pd.DataFrame, chosen: Choices) -> Choices:
    """Ask for the time, the label, what counts as 1, and the entities, unless an option said so.

    What cannot be used is said, and asked again.
    """
    columns = {str(c): describe(table[c]) for c in table.columns}
    out().print(f"{len(table):,} rows, {len(columns)} columns: {', '.join(list(columns)[:30])}", markup=False)
    chosen = _ask_time(table, columns, chosen)
    chosen = _ask_label(table, columns, chosen)
    return _ask_entities(table, columns, chosen)


def _ask_time(table: pd.DataFrame, columns: dict[str, Column], chosen: Choices) -> Choices:
    while chosen.time is None and chosen.start is None:
        try:
            guess = "+".join(read_time(table, list(columns.values()), chosen).reads)
        except TableError as error:
            out().print(str(error), markup=False)
            guess = ""
        answer = _prompt("Which column says when the question was asked?", guess)
        try:
            read_time(table, list(columns.values()), replace(chosen, time=answer))
            chosen = replace(chosen, time=answer)
        except TableError as error:
            out().print(str(error), markup=False)
    return chosen


def _ask_label(table: pd.DataFrame, columns: dict[str, Column], chosen: Choices) -> Choices:
    time = read_time(table, list(columns.values()), chosen)
    while chosen.label is None:
        try:
            guess = guess_label(table, list(columns.values()), time.reads)
        except TableError:
            guess = ""
        answer = _prompt("Which column says what came of it (the label)?", guess)
        if answer in columns:
            chosen = replace(chosen, label=answer)
        else:
            out().print(f"There is no column {answer!r}.", markup=False)
    column = columns[chosen.label]
    while True:
        try:
            label_source(table, column, positive=chosen.positive, above=chosen.above)
            return chosen
        except TableError as error:
            out().print(error.problem, markup=False)
        if column.kind == "number":
            middle = f"{pd.to_numeric(table[column.name], errors='coerce').median():g}"
            answer = _prompt("Above which number is it 1?", middle)
            try:
                chosen = replace(chosen, above=float(answer))
            except ValueError:
                out().print(f"{answer!r} is no number.", markup=False)
        else:
            chosen = replace(
                chosen, positive=_prompt("Which value counts as 1?", suggested_positive(table, column) or "")
            )


def _ask_entities(table: pd.DataFrame, columns: dict[str, Column], chosen: Choices) -> Choices:
    if chosen.entities is not None:
        return chosen
    time = read_time(table, list(columns.values()), chosen)
    left = useless(table, list(columns.values()), moments(table, time))
    taken = {*time.reads, chosen.label, *chosen.drop, *left}
    usable = [c for c in columns.values() if c.name not in taken]
    guess = guess_entities(usable, len(table))
    while True:
        answer = _prompt(
            "By which columns are past outcomes looked up (entities, joined by commas)?", ",".join(guess) or "none"
        )
        names = tuple(part.strip() for part in answer.split(",") if part.strip() and part.strip() != "none")
        unknown = [name for name in names if name not in columns]
        if not unknown:
            return replace(chosen, entities=names)
        out().print(f"There is no column {unknown[0]!r}.", markup=False)


def _prompt(question: str, guess: str) -> str:
    return str(typer.prompt(question, default=guess or None)).strip()
