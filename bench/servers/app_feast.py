"""Feast's online store in Redis behind FastAPI. Runs in Feast's environment.

``python -m bench.servers.app_feast`` writes the features to ``BENCH_STORE``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from fastapi import FastAPI, Request, Response
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float32
from feast.value_type import ValueType

from bench.servers import told
from bench.servers.scoring import Network
from bench.workload import FIELDS, STORED, stored

VIEWS = ("user", "ad")
NAMES = [f"{view}_{i:02d}" for view in VIEWS for i in range(STORED)]
FEATURES = [f"{name.partition('_')[0]}:{name}" for name in NAMES]


def opened() -> FeatureStore:
    """The store."""
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(Path(told.option("STORE")) / "registry.db"),
        online_store={"type": "redis", "connection_string": f"127.0.0.1:{told.redis_port()},db=0"},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def fill(store: FeatureStore) -> None:
    """Write every view to the online store."""
    for view in VIEWS:
        names = [name for name in NAMES if name.startswith(view)]
        entity = Entity(name=view, value_type=ValueType.INT64)
        source = FileSource(name=f"{view}_source", path=f"{told.option('STORE')}/none.parquet", timestamp_field="at")
        schema = [Field(name=name, dtype=Float32) for name in names]
        store.apply([entity, FeatureView(name=view, entities=[entity], ttl=timedelta(2), schema=schema, source=source)])
        rows = pd.DataFrame(stored(view), columns=names)
        rows.insert(0, view, np.arange(len(rows)))
        store.write_to_online_store(view, rows.assign(at=pd.Timestamp.now("UTC")))


app = FastAPI()


@app.on_event("startup")
def start() -> None:
    """Open the store and load the network."""
    app.state.store, app.state.network = opened(), Network(told.model())


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Score the ads of a call."""
    call = orjson.loads(await request.body())
    rows: list[dict[str, Any]] = [{"user": call["user"], "ad": ad} for ad in call["ads"]]
    if told.option("WAY") == "async":
        found = (await app.state.store.get_online_features_async(features=FEATURES, entity_rows=rows)).to_dict()
    else:
        found = app.state.store.get_online_features(features=FEATURES, entity_rows=rows).to_dict()
    fields = [[call[name] for _ in rows] for name in FIELDS]
    X = np.array([*(found[name] for name in NAMES), *fields], dtype=np.float32).T
    scores = app.state.network.scores(np.ascontiguousarray(X))
    return Response(orjson.dumps({"predictions": scores.tolist()}), media_type="application/json")


if __name__ == "__main__":
    fill(opened())
