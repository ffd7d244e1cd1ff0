"""Point-in-time joins: for each past question, the features as they were known when it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.use_case import UseCase
from features.columns import feature_matrix
from features.definitions import BatchView, DerivedView, FeatureSet, RequestView, WindowView, feature_set
from features.offline.batch_columns import fill_batch
from features.offline.log import OfflineLog
from features.offline.questions import BY_TIME, Progress, Questions, field_column, in_parallel, to_us_array
from features.offline.window_columns import fill_windows

__all__ = ["BY_TIME", "EVENTS_AT_ONCE", "Progress", "point_in_time_matrix", "to_us_array"]

EVENTS_AT_ONCE = 32_000_000
"""Of how many events are held at once, at about 150 bytes each."""


def point_in_time_matrix(
    log: OfflineLog,
    use_case: UseCase,
    rows: pd.DataFrame,
    *,
    progress: Progress | None = None,
    events_at_once: int = EVENTS_AT_ONCE,
) -> npt.NDArray[np.float32]:
    """The feature matrix of past questions.

    Beyond the questions and the result it holds the events of one source, or the rows of some batch views, at a time.

    Args:
        log: the offline log.
        use_case: whose features.
        rows: n questions: ``at`` (UTC), the entities and request fields, and where they were answered from stored
            features ``k__<view>@<digest>``, what was known of the view then: of a window view the position of the
            log its entity had come to, of a batch view the generation published. Without the column, or where it
            is null or negative, what was known at ``at`` counts.
        progress: is told, from time to time, how much of how much is done.
        events_at_once: of a source with more events than that in reach, only a share of the entities is held at once.

    Returns:
        Shape (n, features), float32; equal bit for bit to what serving assembled for the same questions.
    """
    features = feature_set(use_case)
    out = np.empty((len(rows), len(features.columns)), dtype=np.float32)
    if not len(rows):
        return out
    questions = Questions(rows, progress, steps=len(features.stored_views) + 1)
    targets = _targets(features, out)
    for source in dict.fromkeys(view.source for view in features.window_views):
        views = [view for view in features.window_views if view.source == source]
        fill_windows(log, use_case, views, questions, targets, events_at_once)
    in_parallel(lambda view: fill_batch(log, use_case, view, questions, targets[view.name]), features.batch_views)
    _compute(use_case, features, questions, targets, out)
    return out


def _targets(features: FeatureSet, out: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    """Where the values of each stored view go: straight into the matrix, unless derived views need all their digits."""
    read = {name for view in features.views if isinstance(view, DerivedView) for name in view.inputs}
    targets: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for view in features.views:
        stop = start + len(view.columns)
        if isinstance(view, WindowView | BatchView):
            is_read = not read.isdisjoint(view.columns)
            targets[view.name] = np.empty((len(out), stop - start)) if is_read else out[:, start:stop]
        start = stop
    return targets


def _compute(
    use_case: UseCase,
    features: FeatureSet,
    questions: Questions,
    targets: Mapping[str, npt.NDArray[Any]],
    out: npt.NDArray[np.float32],
) -> None:
    """Compute what is computed from requests and other features, and put the matrix together."""
    computed = [view for view in features.views if isinstance(view, RequestView | DerivedView)]
    needed = {name for view in computed for name in view.inputs}
    columns = {f.name: field_column(f, questions.rows[f.name]) for f in use_case.request_fields if f.name in needed}
    columns["at"] = questions.at_us
    for block in questions.blocks():
        if computed:  # else all is in its place already
            stored = {name: target[block] for name, target in targets.items()}
            out[block] = feature_matrix(features, stored, {name: values[block] for name, values in columns.items()})
        questions.done(block.stop - block.start)
