"""Columns as fields of a request, of an entity and of events."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pandas as pd

from stack.scaffold.columns import Column, numbers, texts
from stack.scaffold.declaration import Choices, Declared, Reading
from stack.scaffold.names import unlike
from stack.scaffold.roles import MOST_CODES, entity_candidates, is_id

SCOPE = "scope"
_MOST_VALUES = 2
_LONGEST_SHOWN = 70


def request_fields(
    table: pd.DataFrame, usable: list[Column], entities: tuple[str, ...], names: dict[str, str], chosen: Choices,
    keys: set[str],
) -> tuple[tuple[Declared, ...], dict[str, str]]:  # fmt: skip
    """Fields of the request, and columns that cannot be any with the reason."""
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
            fields.append(declared_field(table, column, names))
    return tuple(fields), left


def declared_field(
    table: pd.DataFrame, column: Column, names: dict[str, str], *, as_entity: bool = False, is_feature: bool = True
) -> Declared:
    """A column as a field.

    Args:
        table: the rows.
        column: which.
        names: identifiers of all columns.
        as_entity: as an entity, which is a whole number without gaps or a text.
        is_feature: whether the model sees it.
    """
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


def tells(column: Column) -> bool:
    """Whether the value of an entity is worth the model's attention, besides what happened to it."""
    return column.distinct <= (300 if column.kind == "number" and column.missing == 0 else MOST_CODES)


def scope(names: dict[str, str]) -> Declared:
    """The entity of a table without one, the same for all rows."""
    name = unlike(SCOPE, names.values())
    return Declared(name, "", "str", False, "all", "always the same: no column is a key", (), False, True)


def late_values(
    table: pd.DataFrame, columns: dict[str, Column], leaking: dict[str, str], read: Reading, names: dict[str, str]
) -> tuple[Declared, ...]:
    """Numbers known with the label, worth averaging: the one it was cut from first."""
    wanted = [read.label.column] if read.label.kind == "above" and columns[read.label.column].distinct > 2 else []
    wanted += [c for c in leaking if columns[c].kind == "number" and columns[c].distinct > 20]
    return tuple(
        replace(declared_field(table, columns[c], names), dtype="float", nullable=True, is_code=False)
        for c in dict.fromkeys(wanted)
    )[:_MOST_VALUES]
