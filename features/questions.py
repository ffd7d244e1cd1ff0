"""Past questions as the arrays that feature functions see: what `features.columns` makes of requests, all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import Field

Ints = npt.NDArray[np.int64]
BY_TIME = -1
"""What a question is said to have known of a view whose values it did not read: what was known at its time."""


def to_us_array(moments: pd.Series) -> Ints:
    """UTC timestamps as int64 microseconds since 1970."""
    return np.asarray(moments.astype("datetime64[us, UTC]").astype("int64"), dtype=np.int64)


def field_column(field: Field, values: pd.Series) -> npt.NDArray[Any]:
    """A column of questions, as `features.columns.column_array` would make it.

    Returns:
        int64, float64 (NaN for null, also of nullable integers), or objects of str ("" for null), shape (n,).
    """
    if field.dtype == "str":
        codes, distinct = pd.factorize(values, use_na_sentinel=True)
        texts = np.array([*(str(value) for value in distinct.tolist()), ""], dtype=object)
        return np.asarray(texts[codes])
    if field.dtype == "int" and not field.nullable:
        return np.asarray(values.to_numpy(dtype=np.int64))
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def known_column(rows: pd.DataFrame, name: str) -> Ints | None:
    """What each question knew of a view, `BY_TIME` where nothing is recorded; None if that holds for all."""
    if name not in rows.columns:
        return None
    values = rows[name]
    known = values.to_numpy() if values.dtype == np.int64 else values.astype("Int64").fillna(BY_TIME).to_numpy(np.int64)
    return None if bool((known < 0).all()) else np.maximum(known, BY_TIME)
