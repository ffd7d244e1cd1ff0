"""Which part each column plays: entity, request field, known only later, or left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from stack.scaffold.columns import Column, numbers
from stack.scaffold.errors import TableError
from stack.scaffold.times import TimeSource, is_date_only, moments, time_source

MOST_CODES = 40
_LONGEST_TEXT, _SAMPLE = 256, 2000
_MANY_YEARS = 60
_SHIFTS = (0, *range(-12, 0, 1), *range(1, 13))
_MOST_ENTITIES = 3
_ROWS_PER_VALUE = 3
_MANY_TEXTS, _MANY_IDS = 8, 300
_ENTITY_NAMES = re.compile(
    r"(^|_)(id|ids|uid|guid|key|code|no|nr|num|number|user|customer|client|account|acct|member|person|patient|student|employee|driver|"
    r"station|store|shop|branch|site|zone|location|city|region|country|address|item|product|sku|article|stock|asset|"
    r"card|merchant|vendor|seller|supplier|device|machine|sensor|host|server|meter|vehicle|truck|tail|tailnum|plane|"
    r"carrier|airline|origin|dest|destination|route|line|campaign|ad|banner|page|url|channel|symbol|ticker|team|player|"
    r"category|cat|cc|iban|ip|phone|msisdn)\d*(_|$)"
)
_ID_NAMES = re.compile(
    r"(^|_)(id|key|no|nr|code|uid|num|invoice|order|session|transaction|ticket|booking|uuid)(_|$)|id$"
)
_LATER = re.compile(
    r"drop_?off|end|ended|close|closed|paid|payment|deliver|arriv|resolv|complet|finish|label|outcome|known|conver|"
    r"click|return|decid|settle|return"
)
_PLANNED = re.compile(r"due|expir|sched|plan|valid|birth|born|dob|deadline|promis|expected|estimat")
# part of a moment: after how many it begins again (0: never), and its smallest and greatest number
_PARTS = {
    "year": (0, 0, 2200), "month": (0, 0, 12), "day": (0, 0, 31), "hour": (0, 0, 24), "minute": (0, 0, 60),
    "dayofweek": (7, 0, 7), "dayofyear": (0, 0, 366), "quarter": (0, 0, 4),
}  # fmt: skip


def words(name: str) -> str:
    """A column's name as lower-case words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def useless(table: pd.DataFrame, columns: Sequence[Column], at: pd.Series) -> dict[str, str]:
    """Columns that no request needs to hold, and why."""
    found: dict[str, str] = {}
    for column in columns:
        why = _useless(table[column.name], column, len(table), at)
        if why:
            found[column.name] = why
    return found


def _useless(values: pd.Series, column: Column, rows: int, at: pd.Series) -> str:
    if column.distinct == 0:
        return "it is empty in every row"
    if column.is_constant:
        return "it has the same value in every row"
    if column.kind == "nothing":
        return "it holds lists or other things that are neither numbers nor texts"
    if column.kind == "text" and column.distinct > 0.9 * rows * (1 - column.missing) and column.distinct > 50:
        return "nearly every row has its own text"
    if column.kind == "text" and column.longest > _LONGEST_TEXT:
        return f"its texts are up to {column.longest} characters long, {_LONGEST_TEXT} are the most a request holds"
    if column.kind == "number" and column.is_whole and column.distinct > 50:
        # a shuffled file has shuffled row numbers, so ids that never repeat count as well
        present = numbers(values)
        if column.distinct == rows and (present.is_monotonic_increasing or _ENTITY_NAMES.search(words(column.name))):
            return "it numbers the rows"
    part = _part_of(values, column, at)
    return f"it is the {part} of the time, which every request has" if part else ""


def _part_of(values: pd.Series, column: Column, at: pd.Series) -> str:
    if column.kind != "number" or not column.is_whole or column.distinct > 400:
        return ""
    some = at.index[at.notna()][:: max(1, len(at) // _SAMPLE)]
    read, moment = numbers(values)[some], at[some]
    if read.isna().any():
        return ""
    for part, (cycle, least, most) in _PARTS.items():
        if read.min() < least or read.max() > most or (part == "year" and read.nunique() > _MANY_YEARS):
            continue
        for hours in (0,) if part in ("hour", "minute") else _SHIFTS:  # days may be those of another zone
            own = getattr((moment + pd.Timedelta(hours=hours)).dt, part)
            off = (read - own) % cycle if cycle else read - own
            # counted from another number, such as weekdays from Sunday, it is the same
            if (
                own.nunique() > 1
                and read.nunique() <= own.nunique()
                and float((off == off.mode().iloc[0]).mean()) >= 0.98
            ):
                return "weekday" if part == "dayofweek" else part
    return ""


def is_id(column: Column) -> bool:
    """Whether its numbers name things, and are no quantities."""
    many = column.kind == "number" and column.is_whole and column.distinct > _MANY_IDS
    return many and bool(_ID_NAMES.search(words(column.name)))


def entity_candidates(columns: Sequence[Column], rows: int) -> list[str]:
    """Columns that could be keys past outcomes are looked up by, the best first."""
    scored = []
    for place, column in enumerate(columns):
        present = rows * (1 - column.missing)
        repeats = present / max(column.distinct, 1)
        fits = column.kind == "text" or (column.kind == "number" and column.is_whole)
        if not fits or column.distinct < 2 or repeats < _ROWS_PER_VALUE or column.missing > 0.5:
            continue
        named = bool(_ENTITY_NAMES.search(words(column.name)))
        named_id = bool(_ID_NAMES.search(words(column.name)))
        few = column.distinct < _MANY_TEXTS
        if few and (column.kind == "number" or not (named or named_id)):
            continue
        if column.kind == "number" and not (named or named_id):
            continue
        score = 2.0 * named + 1.0 * named_id + 1.0 * (column.kind == "text") + 1.0 * (column.distinct >= _MANY_TEXTS)
        scored.append((score, -place, column.name))
    return [name for score, _, name in sorted(scored, reverse=True) if score >= 2]


def guess_entities(columns: Sequence[Column], rows: int) -> list[str]:
    """At most three of the candidates, in the order of the table; none if there is none."""
    best = entity_candidates(columns, rows)[:_MOST_ENTITIES]
    return [column.name for column in columns if column.name in best]


def check_entities(names: Iterable[str], columns: Mapping[str, Column], rows: int) -> None:
    """Raise TableError for an entity that cannot be one."""
    for name in names:
        column = columns[name]
        if column.kind in ("nothing", "time") or (column.kind == "number" and not column.is_whole):
            raise TableError(
                f"The entity {name!r} holds {'times' if column.kind == 'time' else 'numbers with fractions or lists'}.",
                "An entity is a whole number or a text, such as an id: name another with --entity.",
            )
        if column.kind == "text" and column.longest > _LONGEST_TEXT:
            raise TableError(
                f"The entity {name!r} has values of up to {column.longest} characters, {_LONGEST_TEXT} are the most.",
                "Shorten them in the file, or name another with --entity.",
            )
        if column.distinct == 0:
            raise TableError(f"The entity {name!r} is empty in every row.", "Name another with --entity.")


def other_times(table: pd.DataFrame, columns: Sequence[Column], used: Iterable[str]) -> dict[str, TimeSource]:
    """Columns that hold times beside that of the question."""
    taken = set(used)
    return {
        c.name: source
        for c in columns
        if c.name not in taken and not (c.kind == "number" and c.distinct <= 2)
        and (source := time_source(table[c.name], c)) is not None
    }  # fmt: skip


def guess_label_time(
    table: pd.DataFrame, others: Mapping[str, TimeSource], at: pd.Series, outcome: pd.Series
) -> str | None:
    """Of other times, the one at which the label became known; None if none looks like it."""
    found = []
    for name, source in others.items():
        read = moments(table, source)
        labelled = outcome.notna() & at.notna()
        if not labelled.any() or read[labelled].notna().mean() < 0.95 or _PLANNED.search(words(name)):
            continue
        gap = (read - at)[labelled].dropna().dt.total_seconds()
        if (gap >= 0).mean() < 0.99 or gap.median() <= 0:
            continue
        if is_date_only(read) and not is_date_only(at):
            continue
        found.append((bool(_LATER.search(words(name))), name))
    hinted = [name for is_hinted, name in found if is_hinted]
    if hinted:
        return hinted[0]
    return found[0][1] if len(found) == 1 else None
