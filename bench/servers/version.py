"""The version that Evergreen and TorchServe serve, and its features in Redis, written by the product's own code."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import redis

from bench.ours_logs import materialize
from bench.servers import ranker
from bench.workload import Ask, asks, stored
from features.definitions import feature_set

USE_CASE = ranker.USE_CASE.name
VERSION = "1"
SOURCE = Path(ranker.__file__)


def instances(ask: Ask) -> list[dict[str, float]]:
    """A call as the product takes it without a context: every instance complete."""
    return [{**ask.context, "ad": ad} for ad in ask.ads]


def write_version(folder: Path, model: Path) -> Path:
    """The folder of a registered version."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SOURCE, folder / "use_case.py")
    shutil.copyfile(model, folder / "model.onnx")
    smoke = {"instances": instances(asks("one")[0]), "at": [datetime.now(UTC).isoformat()]}
    texts = {"feature_spec.json": feature_set(ranker.USE_CASE).spec(), "smoke.json": smoke, "profile.json": {}}
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content))
    names = sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps(digests))
    return folder


def write_models(folder: Path) -> Path:
    """A folder of use cases with just this one."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SOURCE, folder / f"{USE_CASE}.py")
    return folder


def publish_features(client: redis.Redis, namespace: str, folder: Path) -> None:
    """Put both views online, true as of now."""
    now = datetime.now(UTC)
    for view in ("user", "ad"):
        values = stored(view)
        rows = pd.DataFrame(values, columns=[f"{view}_{i:02d}" for i in range(values.shape[1])])
        rows.insert(0, view, np.arange(len(values)))
        rows.assign(at=pd.Timestamp(now).as_unit("us")).to_parquet(folder / f"{view}.parquet")
    materialize(client, namespace, ranker.USE_CASE, folder, folder / "offline", now)
