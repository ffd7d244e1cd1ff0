"""Batch views: computed from the log, published through the log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

import numpy as np
import pandas as pd
import redis

from core.clock import to_us
from core.errors import UseCaseError
from core.use_case import UseCase
from features.definitions import BatchView, view_digest
from features.offline import OfflineLog
from features.streams import Keys, encode_batch, position_of

_JUST_AFTER = timedelta(microseconds=1)


def compute_batch_view(log: OfflineLog, use_case: UseCase, view: BatchView, as_of: datetime) -> pd.DataFrame:
    """The view's rows as of a moment: indexed by entity, one float column per output.

    Raises:
        UseCaseError: if the view's function returns something else than it declared.
    """
    events = log.events(view.source, since=as_of - view.lookback, until=as_of + _JUST_AFTER)
    if events.empty:
        return pd.DataFrame(columns=list(view.outputs), dtype=np.float64)
    frame = view.compute(events.drop(columns="position"), as_of)
    missing = [output for output in view.outputs if output not in frame.columns]
    if missing or not frame.index.is_unique:
        problem = f"lacks the columns {missing}" if missing else "has the same entity twice"
        raise UseCaseError(
            use_case.name, f"the frame computed for view {view.name!r} {problem}", "Return one row per entity."
        )
    values = frame[list(view.outputs)].astype(np.float64)
    broken = values.columns[~np.isfinite(values.to_numpy()).all(axis=0)].tolist()
    if broken:
        raise UseCaseError(
            use_case.name, f"view {view.name!r} computed NaN or infinity in {broken}", "Fill or drop such rows."
        )
    return values.sort_index()


def publish(
    client: redis.Redis, keys: Keys, use_case: UseCase, view: BatchView, frame: pd.DataFrame, as_of: datetime
) -> int:
    """Publish a computed view as one entry of the log: readers see all of it or nothing.

    Returns:
        The entry's position.
    """
    rows = {str(entity): values for entity, values in zip(frame.index, frame.to_numpy().tolist(), strict=True)}
    name, us = f"{use_case.name}/{view.name}@{view_digest(view)}", to_us(as_of)
    fields = encode_batch(name, view.outputs, rows, as_of_us=us, known_at_us=us)
    return position_of(cast(bytes, client.xadd(keys.log, fields)))
