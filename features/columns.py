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
        return np.array(["" if _is_null(value) else str(value) for value in values], dtype=object)
    if field.dtype == "int" and not field.nullable:
        return np.fromiter((int(value) for value in values), dtype=np.int64)
    return np.fromiter((np.nan if value is None else float(value) for value in values), dtype=np.float64)


def request_columns(
    fields: Sequence[Field], instances: Sequence[Mapping[str, Any]], at_us: npt.NDArray[np.int64]
) -> dict[str, Array]:
    """The fields of n requests as arrays of n, ``at`` (int64 microseconds) among them."""
    columns = {field.name: column_array(field, (row.get(field.name) for row in instances)) for field in fields}
    columns["at"] = at_us
    return columns


def compute_view(view: RequestView | DerivedView, columns: Mapping[str, Array]) -> npt.NDArray[np.float64]:
    """The view's outputs as (n, outputs) float64."""
    outputs = view.compute({name: columns[name] for name in view.inputs})
    return np.stack([np.asarray(outputs[name], dtype=np.float64) for name in view.outputs], axis=1)


def feature_matrix(
    features: FeatureSet, stored: Mapping[str, npt.NDArray[np.float64]], columns: Mapping[str, Array]
) -> npt.NDArray[np.float32]:
    """Put the matrix together: the same for training and serving.

    Args:
        features: the views.
        stored: per window and batch view, by name, its values (n, columns).
        columns: the request's fields and ``at``, n each.

    Returns:
        Shape (n, features), float32, columns in the order of the feature set.
    """
    known = dict(columns)
    derives = any(isinstance(view, DerivedView) for view in features.views)
    blocks: list[npt.NDArray[np.float64]] = []
    for view in features.views:
        block = compute_view(view, known) if isinstance(view, RequestView | DerivedView) else stored[view.name]
        blocks.append(block)
        if derives:
            known |= {name: block[:, i] for i, name in enumerate(view.columns) if name not in columns}
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
