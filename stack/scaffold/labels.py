"""What is predicted: which column says what came of a row, and when it counts as 1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from stack.scaffold.columns import Column, numbers, texts
from stack.scaffold.errors import TableError

LEAST_ROWS, LEAST_OF_ONE = 300, 20
_MOST_SPELLINGS = 6  # Yes, yes, YES, …
_YES = ("1", "yes", "y", "true", "t", "on", "positive", "pos")
_NO = ("0", "no", "n", "false", "f", "off", "negative", "neg")
_NAMES = re.compile(
    r"(^|_)(label|target|y|class|outcome|churn\w*|default\w*|fraud\w*|click\w*|conver\w+|purchas\w+|bought|cancel\w*|"
    r"exit\w*|attrit\w*|readmit\w*|subscri\w+|deposit|tomorrow|fail\w*|anomaly|attack|malicious|died|dead|death|"
    r"mortality|repaid|accepted|reject\w*|no_show|diagnosis|"
    r"return\w*|success|survived|response|responded|late|delayed|spam|approved|won|sold|left|attrition|is|has|will)(_|$)"
)


@dataclass(frozen=True)
class LabelSource:
    """How the label of a row is read.

    Args:
        column: which column it is read from.
        kind: ``equal``, 1 where the number is `value`; ``above``, 1 where it is greater; ``text``, 1 where the text is
            `value`, whatever its case.
        value: see `kind`.
    """

    column: str
    kind: Literal["equal", "above", "text"]
    value: float | str


def outcomes(table: pd.DataFrame, source: LabelSource) -> pd.Series:
    """1.0, 0.0, or NaN where it is not known."""
    if source.kind == "text":
        known = texts(table[source.column])
        return (known.str.lower() == source.value).astype("float64").where(known.notna())
    read = numbers(table[source.column])
    hit = read > float(source.value) if source.kind == "above" else read == float(source.value)
    return hit.astype("float64").where(read.notna())


def guess_label(table: pd.DataFrame, columns: Sequence[Column], taken: Sequence[str]) -> str:
    """The column that most likely is the label: of two values, by its name, else by its place.

    Raises:
        TableError: if no column has two values.
    """
    binary = [
        c for c in columns
        if c.name not in taken and ((c.distinct == 2 and c.kind not in ("time", "nothing")) or _is_clear(table, c))
    ]  # fmt: skip
    if not binary:
        many = [c.name for c in columns if c.kind == "number" and c.distinct > 2 and c.name not in taken]
        example = many[-1] if many else "COLUMN"
        raise TableError(
            "No column has exactly two values, so none can be guessed to be the label.",
            f"Name it and say what counts as 1: --label '{example}' --label-above X, or --label COLUMN "
            "--positive VALUE.",
        )

    def score(column: Column) -> tuple[float, float, int]:
        plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.name).lower())
        hinted = _NAMES.search(plain)
        strong = hinted is not None and hinted.group(2) not in ("is", "has")
        clear = _meaning(table[column.name], column) is not None
        return (
            float(strong) + 0.5 * float(hinted is not None),
            float(clear),
            [c.name for c in columns].index(column.name),
        )

    return max(binary, key=score).name


def label_source(
    table: pd.DataFrame, column: Column, *, positive: str | None = None, above: float | None = None
) -> LabelSource:
    """How a column is read as the label.

    Args:
        table: the table.
        column: the label's column.
        positive: the value that counts as 1.
        above: numbers above it count as 1.

    Raises:
        TableError: if it has not two values and nothing says what counts as 1, or that occurs nowhere.
    """
    name, values = column.name, table[column.name]
    if above is not None:
        if column.kind not in ("number", "flag"):
            raise TableError(
                f"The label {name!r} holds texts, so none is above {above:g}.", "Use --positive VALUE instead."
            )
        return LabelSource(name, "above", above)
    if positive is not None:
        return _by_value(values, column, positive)
    meaning = _meaning(values, column)
    if meaning is None:
        raise TableError(*_unclear(values, column))
    return meaning


def suggested_positive(table: pd.DataFrame, column: Column) -> str | None:
    """Of two values the rarer one, which is what people mostly ask about; None unless there are two."""
    if column.distinct != 2:
        return None
    counts = texts(table[column.name]).value_counts()
    return str(counts.index[-1])


def check_outcomes(source: LabelSource, found: pd.Series) -> None:
    """Raise TableError unless there are enough labels, of both kinds."""
    rows, ones = int(found.notna().sum()), int((found == 1).sum())
    said = f"above {source.value:g}" if source.kind == "above" else f"{source.value!r}"
    if rows < LEAST_ROWS:
        raise TableError(
            f"Only {rows} rows have a time and a label in {source.column!r}; {LEAST_ROWS} are the least to train on.",
            "Give more of the past.",
        )
    if min(ones, rows - ones) == 0:
        raise TableError(
            f"The label {source.column!r} has one class only: {'every' if ones else 'no'} row is {said}.",
            "Choose another --positive or --label-above, or a table with both.",
        )
    if min(ones, rows - ones) < LEAST_OF_ONE:
        which = "are" if ones < rows - ones else "are not"
        raise TableError(
            f"Only {min(ones, rows - ones)} of {rows} rows {which} {said} in the label {source.column!r}; "
            f"{LEAST_OF_ONE} are the least to learn from.",
            "Give more of the past, or choose another --positive or --label-above.",
        )


def _is_clear(table: pd.DataFrame, column: Column) -> bool:
    return column.distinct > 1 and _meaning(table[column.name], column) is not None


def _meaning(values: pd.Series, column: Column) -> LabelSource | None:
    if column.distinct == 0:
        return None
    if column.kind == "flag":
        return LabelSource(column.name, "text", "true")
    if column.kind == "number" and column.distinct <= 2:
        found = np.unique(numbers(values).dropna())
        if set(found) <= {0.0, 1.0}:
            return LabelSource(column.name, "equal", 1.0)
        if len(found) == 2:
            return LabelSource(column.name, "equal", float(found[1]))
    if column.kind == "text" and column.distinct <= _MOST_SPELLINGS:
        found_texts = set(texts(values).dropna().str.lower())
        for yes, no in zip(_YES, _NO, strict=True):
            if found_texts == {yes, no} or found_texts == {yes}:
                return LabelSource(column.name, "text", yes)
        negated = sorted(v for v in found_texts if re.match(r"(not?|non|un)[\s_-]", v))
        if len(found_texts) == 2 and len(negated) == 1:
            return LabelSource(column.name, "text", next(v for v in sorted(found_texts) if v not in negated))
    return None


def _by_value(values: pd.Series, column: Column, positive: str) -> LabelSource:
    if column.kind == "number":
        try:
            wanted = float(positive)
        except ValueError as error:
            raise TableError(
                f"The label {column.name!r} holds numbers, and {positive!r} is none.",
                "Give one of them with --positive, or --label-above X.",
            ) from error
        if not (numbers(values) == wanted).any():
            raise TableError(
                f"No row has {positive} in the label {column.name!r}.", f"Use one of: {_some(values, column)}."
            )
        return LabelSource(column.name, "equal", wanted)
    wanted_text = {"1": "true", "yes": "true"}.get(positive.lower(), positive.lower())
    wanted_text = wanted_text if column.kind == "flag" else positive.strip().lower()
    if not (texts(values).str.lower() == wanted_text).any():
        raise TableError(
            f"No row has {positive!r} in the label {column.name!r}.", f"Use one of: {_some(values, column)}."
        )
    return LabelSource(column.name, "text", wanted_text)


def _unclear(values: pd.Series, column: Column) -> tuple[str, str]:
    shown = _some(values, column)
    if column.distinct == 0:
        return f"The label {column.name!r} is empty in every row.", "Name another column with --label."
    if column.distinct == 1:
        return f"The label {column.name!r} has one class only: {shown}.", "Name another column with --label."
    if column.kind == "number":
        middle = float(numbers(values).median())
        return (
            f"The label {column.name!r} is not binary: it has {column.distinct} different numbers, such as {shown}.",
            f"Say what counts as 1: --label-above {middle:g} (the half that is greater), or --positive VALUE.",
        )
    mixed = f" {column.unread} of its values are numbers." if column.unread else ""
    return (
        f"The label {column.name!r} has {column.distinct} different values, such as {shown}.{mixed}",
        f"Say which counts as 1, all others are 0: --positive '{texts(values).value_counts().index[-1]}'.",
    )


def _some(values: pd.Series, column: Column) -> str:
    found = texts(values).value_counts().index[:5].tolist()
    return ", ".join(repr(v) if column.kind == "text" else str(v) for v in found) + (
        ", …" if column.distinct > 5 else ""
    )
