"""A history in an offline log of its own, as if it had streamed in and its batch views had been refreshed."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd

from core.clock import MICROSECOND, as_utc
from core.use_case import History, UseCase
from features.batch.materialization import fresh_rows
from features.definitions import feature_set, view_digest
from features.offline.log import OfflineLog
from features.tables import TableAccess


def import_events(log: OfflineLog, history: History) -> None:
    """Write the events of every source; each became known when it happened.

    Args:
        log: an empty one.
        history: the past.
    """
    parts = [
        (f"events/{source}", frame.assign(known_at=frame["at"]))
        for source, frame in history.events.items()
        if len(frame)
    ]
    first = 1
    tables: dict[str, pd.DataFrame] = {}
    for table, frame in parts:
        tables[table] = frame.assign(position=np.arange(first, first + len(frame), dtype=np.int64))
        first += len(frame)
    if tables:
        log.write("log-0", first - 1, tables)


def refresh_views(log: OfflineLog, use_case: UseCase, since: datetime, until: datetime, access: TableAccess) -> None:
    """Compute every batch view as often as the policy says, each time from what was known then.

    Args:
        log: with the events.
        use_case: whose views.
        since: when the history begins; the first refresh is one `Policy.materialize_every` later.
        until: when it ends.
        access: for reading tables.
    """
    every, generation = use_case.policy.materialize_every, 0
    moment = as_utc(since)
    while (moment := moment + every) < until:
        generation += 1
        for view in feature_set(use_case).batch_views:
            found = fresh_rows(log, use_case, view, moment, access).frame
            if not found.empty:
                log.write_generation(use_case.name, view.name, view_digest(use_case.name, view), generation, found)


def span_of(history: History) -> tuple[datetime, datetime]:
    """From the first to just after the last thing asked."""
    at = history.requests["at"]
    return at.iloc[0].to_pydatetime(), at.iloc[-1].to_pydatetime() + MICROSECOND
