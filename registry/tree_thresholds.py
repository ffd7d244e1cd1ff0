"""Split thresholds that decide alike in float64 and in float32."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt


def floor_to_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The largest float32 numbers not above the values.

    For every float32 x and float64 t, ``x <= t`` holds exactly if ``x <= floor(t)`` does, whereas
    rounding t to the nearest float32 may step over x.

    Example:
        >>> between = (np.float64(np.float32(1)) + np.nextafter(np.float32(1), np.float32(2))) / 2
        >>> float(floor_to_float32(np.array([between, 0.5]))[0])
        1.0
    """
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest).astype(np.float64)


def with_float32_thresholds(estimator: Any) -> Any:
    """A copy of a scikit-learn estimator whose histogram gradient boosting splits on float32 thresholds.

    On float32 input the copy predicts what the original does. Other trees need no such copy: skl2onnx
    moves their thresholds itself.

    Args:
        estimator: fitted; a pipeline, a calibrated model or another container will do.

    Returns:
        A deep copy, or the estimator itself when it contains no histogram gradient boosting.
    """
    if next(hist_gradient_boostings(estimator), None) is None:
        return estimator
    copied = deepcopy(estimator)
    for boosting in hist_gradient_boostings(copied):
        for stage in boosting._predictors:
            for tree in stage:
                tree.nodes["num_threshold"] = floor_to_float32(tree.nodes["num_threshold"])
    return copied


def hist_gradient_boostings(estimator: Any) -> Iterator[Any]:
    """Every fitted HistGradientBoostingClassifier or -Regressor within an estimator."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if hasattr(part, "_predictors") and hasattr(part, "_baseline_prediction"):
            yield part
        elif isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif type(part).__module__.startswith("sklearn."):
            waiting.extend(getattr(part, "__dict__", {}).values())
