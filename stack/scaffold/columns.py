"""What the columns of a table hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Kind = Literal["number", "flag", "text", "time", "nothing"]
_MOSTLY = 0.98
_LARGEST_EXACT = 2**53


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Args:
        name: as it stands in the file.
        kind: ``number``; ``flag``, true or false; ``text``; ``time``, of a datetime type; ``nothing``, lists and such.
        missing: share of rows without a value, in [0, 1].
        distinct: number of different values.
        is_whole: numbers without a fraction that a float64 holds exactly.
        unread: rows whose value is not of the kind that nearly all others have.
        example: a value that occurs often; None if there is none.
        longest: characters of the longest text; 0 for other kinds.
    """

    name: str
    kind: Kind
    missing: float
    distinct: int
    is_whole: bool = False
    unread: int = 0
    example: Any = None
    longest: int = 0

    @property
    def is_constant(self) -> bool:
        """Whether it tells nothing: one value, in every row."""
        return self.distinct == 0 or (self.distinct == 1 and self.missing == 0)


def numbers(values: pd.Series) -> pd.Series:
    """As float64, missing where there is no finite number."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    found: pd.Series = pd.to_numeric(values, errors="coerce").astype("float64")
    return found.where(np.isfinite(found))


def texts(values: pd.Series) -> pd.Series:
    """As trimmed text, None where there is none; whole numbers have no fraction."""
    places, different = pd.factorize(values.astype(object))
    spelt = np.array([*(_as_text(value) or None for value in different), None], dtype=object)
    return pd.Series(spelt[places], index=values.index, name=values.name, dtype=object)


def _as_text(value: Any) -> str:
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def describe(values: pd.Series) -> Column:
    """Describe one column."""
    name = str(values.name)
    dtype = values.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return Column(name, "time", float(values.isna().mean()), int(values.nunique()))
    if pd.api.types.is_bool_dtype(dtype):
        return Column(name, "flag", float(values.isna().mean()), int(values.nunique()), True, example=1)
    if pd.api.types.is_numeric_dtype(dtype) and not _is_too_large(values):
        return _number(name, values)
    present = values.dropna()
    types = set(map(type, present.tolist()))
    if any(issubclass(each, list | dict | tuple | set | np.ndarray | bytes) for each in types):
        return Column(name, "nothing", float(values.isna().mean()), len(present))
    if types == {bool}:
        return Column(name, "flag", float(values.isna().mean()), int(present.nunique()), True, example=1)
    as_text = texts(values)
    filled = as_text.notna()
    read = numbers(as_text)
    fits = filled.any() and not _is_too_large(values)
    if fits and read.notna().sum() >= _MOSTLY * filled.sum() and not _has_leading_zeros(as_text[filled]):
        found = _number(name, read)
        return Column(
            name, "number", found.missing, found.distinct, found.is_whole,
            unread=int((filled & read.isna()).sum()), example=found.example,
        )  # fmt: skip
    counts = as_text.value_counts()
    return Column(
        name, "text", float((~filled).mean()), len(counts),
        unread=int(read.notna().sum()) if 0.02 < read.notna().sum() / max(filled.sum(), 1) < _MOSTLY else 0,
        example=str(counts.index[0]) if len(counts) else None,
        longest=max(map(len, counts.index), default=0),
    )  # fmt: skip


def _number(name: str, values: pd.Series) -> Column:
    read = numbers(values)
    present = read.dropna()
    whole = bool(len(present)) and bool((present % 1 == 0).all()) and bool((present.abs() <= _LARGEST_EXACT).all())
    example: Any = None
    if len(present):
        middle = float(present.quantile(0.5, interpolation="nearest"))
        example = int(middle) if whole else float(f"{middle:.6g}")
    return Column(name, "number", float(read.isna().mean()), int(present.nunique()), whole, example=example)


def _is_too_large(values: pd.Series) -> bool:
    """Whole numbers that a float64 would blur: they are ids."""
    return pd.api.types.is_integer_dtype(values.dtype) and bool((values.dropna().abs() > _LARGEST_EXACT).any())


def _has_leading_zeros(as_text: pd.Series) -> bool:
    """Codes such as 00123 would lose what tells them apart."""
    return bool(as_text.head(5000).str.fullmatch(r"0\d+").mean() > 0.01)
