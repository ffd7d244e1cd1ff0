"""The online reads by Feast's `get_online_features`, from the same Redis. Runs in the peers' environment.

``python -m bench.peer_feast_online <port> <shape> <calls> <folder> <answer>``: see `bench.contender`. The answer is
what is timed: ``response`` is Feast's own, ``dict`` is that turned into numbers by its ``to_dict``, as its users do.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float32
from feast.value_type import ValueType

from bench.contender import serve
from bench.data import COLUMNS, ONLINE_ENTITIES, online_questions, online_values
from bench.shapes import SHAPES, Shape


def store(port: int, shape: Shape, folder: str) -> FeatureStore:
    """A store whose Redis holds what the shape's views hold."""
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(Path(folder) / f"{'-'.join(shape.views)}.db"),
        offline_store={"type": "duckdb"},
        online_store={"type": "redis", "connection_string": f"127.0.0.1:{port},db=0"},
        entity_key_serialization_version=3,
    )
    found = FeatureStore(config=config)
    for view in shape.views:
        entity = Entity(name=view, value_type=ValueType.INT64)
        # never read: values are written to the online store directly
        source = FileSource(name=f"{view}_source", path=f"{folder}/none.parquet", timestamp_field="at")
        schema = [Field(name=name, dtype=Float32) for name in _names(view)]
        found.apply([entity, FeatureView(name=view, entities=[entity], ttl=timedelta(2), schema=schema, source=source)])
        rows = pd.DataFrame(online_values(view), columns=_names(view))
        rows.insert(0, view, np.arange(ONLINE_ENTITIES))
        found.write_to_online_store(view, rows.assign(at=pd.Timestamp.now("UTC")))
    return found


def matrix(columns: dict[str, list[Any]], shape: Shape) -> npt.NDArray[np.float32]:
    """The numbers of an answer, shape (entities, 20 x views)."""
    return np.stack([np.array(columns[n], dtype=np.float32) for view in shape.views for n in _names(view)], axis=1)


def _names(view: str) -> list[str]:
    return [f"{view}_{name}" for name in COLUMNS]


if __name__ == "__main__":
    port, shape, calls, folder, answer = int(sys.argv[1]), SHAPES[sys.argv[2]], int(sys.argv[3]), *sys.argv[4:]
    feast = store(port, shape, folder)
    features = [f"{view}:{name}" for view in shape.views for name in _names(view)]
    questions = [
        [dict.fromkeys(shape.views, i) for i in entities]
        for entities in online_questions(calls, shape.entities).tolist()
    ]

    def _read() -> list[Any]:
        found = [feast.get_online_features(features=features, entity_rows=rows) for rows in questions]
        return [response.to_dict() for response in found] if answer == "dict" else found

    def _save(found: list[Any], path: str) -> None:
        columns = found if answer == "dict" else [response.to_dict() for response in found]
        np.save(path, np.stack([matrix(each, shape) for each in columns]))

    serve(_read, _save)
