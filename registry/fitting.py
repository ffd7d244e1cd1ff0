"""Fitting an estimator on selected rows: with weights, and on from an earlier version where it can."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import TrainingError
from core.torch_classifier import TorchClassifier
from core.use_case import Classifier

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32] | None

_MORE_TREES = 0.25  # of those declared, with each warm start
_MOST_TREES = 2.0  # of those declared: then the ensemble begins anew, so that answering does not get slower for ever


def fit(estimator: Classifier, X: Matrix, y: Labels, weights: Weights = None) -> Classifier:
    """Fit from scratch.

    Args:
        estimator: fresh.
        X: float32 (n, d).
        y: (n,), 0 or 1.
        weights: (n,); None: all rows count alike.

    Raises:
        TrainingError: if there are weights and the estimator cannot take any.
    """
    estimator.fit(X, y, **_weight_arguments(estimator, weights))
    return estimator


def go_on(fresh: Classifier, previous: Any, X: Matrix, y: Labels, weights: Weights = None) -> tuple[Classifier, bool]:
    """Fit on from an earlier version's estimator.

    A network goes on from its weights, an ensemble that grows gets a quarter more trees (up to twice those that are
    declared, then it begins anew), what has ``warm_start`` or ``partial_fit`` uses that. Of a pipeline, the last step
    goes on; the steps before it stay as they were fitted, since its inputs must keep their meaning.

    Args:
        fresh: as the use case declares it; returned fitted if it begins anew.
        previous: the earlier version's, fitted; it is not changed. None: there is none at hand.
        X: float32 (n, d).
        y: (n,), 0 or 1.
        weights: (n,); None: all rows count alike.

    Returns:
        The fitted estimator, and whether it went on.

    Raises:
        TrainingError: if this kind of estimator cannot go on.
    """
    require_warm_start(fresh)
    if previous is None or type(previous) is not type(fresh):
        return fit(fresh, X, y, weights), False
    if isinstance(fresh, TorchClassifier) and isinstance(previous, TorchClassifier):
        return fit(fresh.start_from(previous), X, y, weights), True
    going: Any = deepcopy(previous)
    final, declared, inputs = _last(going), _last(fresh), X
    if final is not going:
        inputs = going[:-1].transform(X)
    parameters = final.get_params(deep=False)
    if {"warm_start", "n_estimators"} <= parameters.keys():
        wanted = declared.get_params(deep=False)["n_estimators"]
        trees = parameters["n_estimators"] + math.ceil(wanted * _MORE_TREES)
        if trees > wanted * _MOST_TREES:
            return fit(fresh, X, y, weights), False
        final.set_params(warm_start=True, n_estimators=trees)
    elif "warm_start" in parameters:
        final.set_params(warm_start=True)
    arguments = _weight_arguments(final, weights)
    if "warm_start" in parameters:
        final.fit(inputs, y, **arguments)
    else:
        final.partial_fit(inputs, y, **arguments)
    return going, True


def require_warm_start(estimator: Any) -> None:
    """Return if an estimator can be fitted on from an earlier one.

    Raises:
        TrainingError: naming the estimator, why not, and what to do.
    """
    if isinstance(estimator, TorchClassifier):
        return
    final = _last(estimator)
    name = type(final).__name__
    parameters: Mapping[str, Any] = final.get_params(deep=False) if hasattr(final, "get_params") else {}
    why = ""
    if name.startswith("HistGradientBoosting"):
        # https://scikit-learn.org/stable/modules/generated/sklearn.ensemble.HistGradientBoostingClassifier.html:
        # "For results to be valid, the estimator should be re-trained on the same data only."
        why = "its warm_start is valid on the rows it was fitted on only, since new rows get other bins"
    elif "warm_start" not in parameters and not hasattr(final, "partial_fit"):
        why = "it has neither warm_start nor partial_fit"
    if why:
        raise TrainingError(
            f"{name} cannot go on from an earlier version: {why}. Set warm_start=False in the selection, or use an "
            "estimator that can: a TorchClassifier, GradientBoosting, SGD, LogisticRegression or MLP, e.g."
        )


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _weight_arguments(estimator: Any, weights: Weights) -> dict[str, Any]:
    from sklearn.utils.validation import has_fit_parameter

    if weights is None:
        return {}
    final = _last(estimator)
    if not has_fit_parameter(final, "sample_weight"):
        raise TrainingError(
            f"{type(final).__name__} cannot weigh rows: its fit takes no sample_weight. Use a selection without "
            "weights (all, window or validated), or an estimator that takes them."
        )
    return {"sample_weight" if final is estimator else f"{estimator.steps[-1][0]}__sample_weight": weights}
