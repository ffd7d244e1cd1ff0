"""Importing past questions and labels, so that a first version can be trained before anything was served."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import redis

from core.use_case import UseCase
from features.offline.questions import to_us_array
from features.streams import Keys, encode_labels, encode_predictions

_CHUNK = 2000


def instances_of(use_case: UseCase, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON-able request instances; null where a value is missing."""
    names = [f.name for f in use_case.request_fields]
    frame = rows[names].astype(object).where(rows[names].notna(), None)
    columns = [
        [int(value) if field.dtype == "int" and value is not None else value for value in frame[field.name]]
        for field in use_case.request_fields
    ]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def import_history(
    client: redis.Redis, keys: Keys, use_case: UseCase, requests: pd.DataFrame, labels: pd.DataFrame
) -> int:
    """Write past requests (``key, at``, fields) and labels (``key, label, at``) to the streams.

    They get the ids ``import-<key>``, version "", no features and nothing that was known: features are computed at
    training time from what the log says was known at the time.

    Args:
        client: Redis.
        keys: names of the streams.
        use_case: whose questions.
        requests: sorted by ``at``.
        labels: sorted by ``at``, when each became known.

    Returns:
        The number of requests.
    """
    for start in range(0, len(requests), _CHUNK):
        part = requests.iloc[start : start + _CHUNK]
        at_us = to_us_array(part["at"])
        n = len(part)
        fields = encode_predictions(
            use_case=use_case.name, version="", known=np.zeros((n, 0), np.int64), known_views=(), now_us=int(at_us[-1]),
            ids=[f"import-{key}" for key in part["key"]], at_us=at_us, degraded=[[]] * n,
            matrix=np.zeros((n, 0), np.float32), scores=np.full(n, np.nan, np.float32),
            instances=instances_of(use_case, part), columns=(),
        )  # fmt: skip
        client.xadd(keys.predictions, fields)
    for start in range(0, len(labels), _CHUNK):
        part = labels.iloc[start : start + _CHUNK]
        known_us = to_us_array(part["at"])
        rows = [
            {"prediction_id": f"import-{key}", "label": int(label), "at_us": int(us)}
            for key, label, us in zip(part["key"], part["label"], known_us, strict=True)
        ]
        client.xadd(keys.labels, encode_labels(use_case.name, rows, int(known_us[-1])))
    return len(requests)
