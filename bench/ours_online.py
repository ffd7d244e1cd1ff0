"""The online reads by the product: published batch views, assembled as for a prediction.

``python -m bench.ours_online <port> <shape> <calls>``: see `bench.contender`.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import redis

from bench.contender import serve
from bench.data import COLUMNS, ONLINE_ENTITIES, online_questions, online_values
from bench.declared import online
from bench.ours_logs import materialize
from bench.redis_server import connect
from bench.shapes import SHAPES, Shape
from core.clock import to_us
from features.online.reader import FeatureReader


def fill(client: redis.Redis, namespace: str, shape: Shape, now: datetime) -> FeatureReader:
    """Publish what the shape's views hold, true as of now; what reads it."""
    use_case = online(shape.views)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for view in shape.views:
            rows = pd.DataFrame(online_values(view), columns=list(COLUMNS))
            rows.insert(0, view, np.arange(ONLINE_ENTITIES))
            rows.assign(at=pd.Timestamp(now).as_unit("us")).to_parquet(folder / f"{view}.parquet")
        materialize(client, namespace, use_case, folder, folder / "offline", now)
    return FeatureReader(use_case, client, namespace)


if __name__ == "__main__":
    client, shape, now = connect(int(sys.argv[1])), SHAPES[sys.argv[2]], datetime.now(UTC)
    reader = fill(client, f"ours-{sys.argv[2]}", shape, now)
    questions = [
        [dict.fromkeys(shape.views, i) for i in entities]
        for entities in online_questions(int(sys.argv[3]), shape.entities).tolist()
    ]
    at_us = np.full(shape.entities, to_us(now), dtype=np.int64)
    serve(
        lambda: [reader.assemble(instances, at_us) for instances in questions],
        lambda found, path: np.save(path, np.stack([each.matrix for each in found])),
    )
