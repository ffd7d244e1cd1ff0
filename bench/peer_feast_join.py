"""The same as-of join by Feast with its DuckDB offline store. Runs in the peers' environment.

``python -m bench.peer_feast_join <daily.parquet> <questions.parquet> <folder>``: see `bench.contender`.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType

from bench.contender import serve
from bench.data import COLUMNS


def store(daily: str, folder: str) -> FeatureStore:
    """A store that knows the daily table."""
    entity = Entity(name="entity", value_type=ValueType.INT64)
    view = FeatureView(
        name="daily",
        entities=[entity],
        ttl=timedelta(days=2),
        schema=[Field(name=name, dtype=Float64) for name in COLUMNS],
        source=FileSource(path=daily, timestamp_field="at"),
    )
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(Path(folder) / "registry.db"),
        offline_store={"type": "duckdb"},
        online_store=None,
        entity_key_serialization_version=3,
    )
    found = FeatureStore(config=config)
    found.apply([entity, view])
    return found


def join(feast: FeatureStore, questions: str) -> npt.NDArray[np.float32]:
    """Ask for every question's features; a row number goes along, because Feast keeps no order."""
    asked = pq.read_table(questions).to_pandas().rename(columns={"at": "event_timestamp"})
    asked["row"] = np.arange(len(asked))
    job = feast.get_historical_features(entity_df=asked, features=[f"daily:{name}" for name in COLUMNS])
    answer = job.to_arrow()
    matrix = np.empty((len(asked), len(COLUMNS)), dtype=np.float32)
    matrix[answer["row"].to_numpy()] = np.stack([answer[name].to_numpy() for name in COLUMNS], axis=1)
    return matrix


if __name__ == "__main__":
    feast = store(sys.argv[1], sys.argv[3])
    serve(lambda: join(feast, sys.argv[2]), lambda matrix, path: np.save(path, matrix))
