"""Parts of the rows that are looked at separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase

Mask = npt.NDArray[np.bool_]

_MOST_VALUES = 20
_QUARTILES = (0.25, 0.5, 0.75)


def segment_columns(
    use_case: UseCase,
    names: Sequence[str],
    requests: pd.DataFrame,
    matrix: npt.NDArray[np.float32],
    columns: Sequence[str],
) -> dict[str, npt.NDArray[Any]]:
    """The values by which rows are told apart: of request fields, else of feature columns; unknown names are left out.

    Args:
        use_case: says which columns are codes; theirs are of dtype object, whatever they look like.
        names: as the policy names them.
        requests: the questions, n rows.
        matrix: their features, float32 (n, d).
        columns: names of the d features.
    """
    place = {name: i for i, name in enumerate(columns)}
    found = {
        name: requests[name].to_numpy() if name in requests else matrix[:, place[name]]
        for name in names
        if name in requests or name in place
    }
    return {name: values.astype(object) if name in use_case.codes else values for name, values in found.items()}


def segment_masks(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, Mask]:
    """Which rows are in which segment, e.g. in ``vendor_id=2``; rows without a value are in none.

    A column of many numbers is cut at its quartiles; of many other values, the twenty most frequent count.

    Args:
        values: by column, shape (n,).

    Example:
        >>> sorted(segment_masks({"vendor": np.array([1.0, 2.0, 2.0])}))
        ['vendor=1', 'vendor=2']
    """
    found: dict[str, Mask] = {}
    for name, column in values.items():
        held = pd.Series(column)
        counts = held.value_counts()
        if len(counts) > _MOST_VALUES and pd.api.types.is_numeric_dtype(held):
            found |= _quarters(name, held.to_numpy(dtype=np.float64))
        else:
            for value in counts.index[:_MOST_VALUES]:
                found[f"{name}={_text(value)}"] = (held == value).to_numpy(dtype=bool)
    return found


def _quarters(name: str, values: npt.NDArray[np.float64]) -> dict[str, Mask]:
    cuts = np.unique(np.nanquantile(values, _QUARTILES))
    edges = [-np.inf, *cuts.tolist(), np.inf]
    return {f"{name} in ({low:.4g}, {high:.4g}]": (values > low) & (values <= high) for low, high in pairwise(edges)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)
