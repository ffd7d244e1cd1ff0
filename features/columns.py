"""Turning requests and logged rows into the arrays that feature functions see: one way for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.use_case import Field
from features.definitions import DerivedView, FeatureSet, RequestView

Array = npt.NDArray[Any]


def column_array(field: Field, values: Iterable[Any]) -> Array:
    """Values of one field as an array: int64, float64 (null is NaN), or objects of str (null is "").

    A nullable integer comes as float64, so that null can be NaN.
    """
    if field.dtype == "str":
        return np.array([_text(v) for v in values], dtype=object)
    if field.dtype == "int" and not field.nullable:
        return np.array([int(v) for v in values], dtype=np.int64)
    return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def request_columns(
    fields: Sequence[Field], instances: Sequence[Mapping[str, Any]], at_us: npt.NDArray[np.int64]
) -> dict[str, Array]:
    """The fields of n requests as arrays of n, ``at`` (int64 microseconds) among them."""
    columns = {field.name: column_array(field, [row.get(field.name) for row in instances]) for field in fields}
    columns["at"] = at_us
    return columns


def compute_view(view: RequestView | DerivedView, columns: Mapping[str, Array]) -> npt.NDArray[np.float64]:
    """The view's outputs as (n, outputs) float64."""
    outputs = view.compute({name: columns[name] for name in view.inputs})
    return np.stack([np.asarray(outputs[name], dtype=np.float64) for name in view.outputs], axis=1)


class MatrixPlan:
    """Puts feature matrices together: which columns each view fills, and what derived views read of the others.

    Args:
        features: the views.

    Example:
        >>> double = RequestView(name="d", inputs=("n",), outputs=("d",), compute=lambda c: {"d": c["n"] * 2})
        >>> MatrixPlan(FeatureSet((double,))).fill({}, {"at": np.zeros(1), "n": np.array([2])}).tolist()
        [[4.0]]
    """

    def __init__(self, features: FeatureSet) -> None:
        self._width = len(features.columns)
        read = {name for view in features.views if isinstance(view, DerivedView) for name in view.inputs}
        self._places: list[tuple[str, RequestView | DerivedView | None, slice, list[tuple[str, int]]]] = []
        start = 0
        for view in features.views:
            computed = view if isinstance(view, RequestView | DerivedView) else None
            shown = [(name, i) for i, name in enumerate(view.columns) if name in read]
            self._places.append((view.name, computed, slice(start, start + len(view.columns)), shown))
            start += len(view.columns)

    def fill(self, stored: Mapping[str, Array], columns: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        """See `feature_matrix`."""
        matrix = np.empty((len(columns["at"]), self._width), dtype=np.float32)
        known = dict(columns)
        for name, computed, place, shown in self._places:
            block = stored[name] if computed is None else compute_view(computed, known)
            matrix[:, place] = block
            for column, i in shown:
                if column not in columns:  # a field of the request takes precedence over a feature of its name
                    known[column] = block[:, i].astype(np.float64)
        return matrix


def feature_matrix(
    features: FeatureSet, stored: Mapping[str, Array], columns: Mapping[str, Array]
) -> npt.NDArray[np.float32]:
    """Put the matrix together: the same for training and serving.

    Args:
        features: the views.
        stored: per window and batch view, by name, its values (n, columns), as float64 or float32.
        columns: the request's fields and ``at``, n each.

    Returns:
        Shape (n, features), float32, columns in the order of the feature set.
    """
    return MatrixPlan(features).fill(stored, columns)


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)  # NaN equals nothing
