"""The product's offline log, written from the benchmarks' data by the product itself, before anything is measured."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import redis

from bench import data, declared
from core.use_case import UseCase
from features.batch.materialization import materialize_view
from features.definitions import feature_set
from features.offline.log import OfflineLog
from features.streams import Keys
from features.tables import TableAccess

_AFTER_ALL = datetime.fromtimestamp((data.START_US + data.DAYS * data.DAY_US) / 1e6, UTC)


def write_daily(client: redis.Redis, daily: Path, offline: Path) -> None:
    """The daily table as the `materialize` flow logs it.

    Args:
        client: a Redis; what was true long ago has expired there, so that nothing is put online.
        daily: the table.
        offline: folder of the log.
    """
    materialize(client, "daily", declared.daily(), daily.parent, offline, _AFTER_ALL)


def materialize(
    client: redis.Redis, namespace: str, use_case: UseCase, tables: Path, offline: Path, as_of: datetime
) -> None:
    """Publish every batch view of a use case."""
    log, keys, access = OfflineLog(offline), Keys(namespace), TableAccess(tables)
    for view in feature_set(use_case).batch_views:
        materialize_view(client, keys, log, use_case, view, as_of, access=access)


def write_events(events: Path, offline: Path) -> None:
    """All events in the log, each known when it happened."""
    frame: pd.DataFrame = pq.read_table(events).to_pandas()
    places = np.arange(1, len(frame) + 1)
    frame["id"] = np.char.add("e", places.astype("U8")).astype(object)
    frame["known_at"], frame["position"], frame["by"] = frame["at"], places, ",".join(sorted(declared.KEYS))
    OfflineLog(offline).write("log-0", len(frame), {f"events/{declared.SOURCE}": frame})
