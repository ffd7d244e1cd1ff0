"""A use case that trains in no time, and rows to train it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.discovery import UseCaseFile, load_use_case
from features.offline.training import TrainingSet, fingerprint

MakeRows = Callable[..., TrainingSet]

USE_CASE = """
from datetime import timedelta

from core.use_case import EventSource, Field, History, Label, Policy, UseCase
from features.definitions import FeatureSet, RequestView

fields = (
    Field(name="size", dtype="float"), Field(name="count", dtype="int"), Field(name="note", dtype="str", nullable=True)
)


def estimator(columns):
    from sklearn.linear_model import LogisticRegression
    {imports}
    return {estimator}


tiny = UseCase(
    name="tiny",
    description="Will it fit?",
    entities=(Field(name="shop", dtype="str"),),
    request=fields,
    sources=(),
    features=FeatureSet((
        RequestView(
            name="all", inputs=("size", "count"), outputs=("size", "count", "noise"),
            compute=lambda c: {{"size": c["size"], "count": c["count"], "noise": c["size"] * 0}},
        ),
    )),
    label=Label(name="fits", horizon=timedelta(hours=1), known_only_after=()),
    estimator=estimator,
    history=lambda folder: None,
    policy=Policy(min_rows=200, holdout_rows=100),
)
"""


@pytest.fixture
def make_use_case(tmp_path: Path) -> Callable[..., UseCaseFile]:
    """Writes a use-case file with the given estimator and loads it."""

    def make(estimator: str = "LogisticRegression()", imports: str = "") -> UseCaseFile:
        path = tmp_path / "tiny.py"
        path.write_text(USE_CASE.format(estimator=estimator, imports=imports))
        return load_use_case(path)

    return make


@pytest.fixture
def use_case_file(make_use_case: Callable[..., UseCaseFile]) -> UseCaseFile:
    return make_use_case()


@pytest.fixture
def make_rows() -> MakeRows:
    """Makes n labelled rows in which size decides, mostly."""

    def make(n: int = 600, *, seed: int = 0) -> TrainingSet:
        rng = np.random.default_rng(seed)
        matrix = np.stack([rng.normal(size=n), rng.integers(0, 9, n), rng.normal(size=n)], axis=1).astype(np.float32)
        labels = (matrix[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(np.int64)
        at_us = 1_549_000_000_000_000 + np.arange(n) * 60_000_000
        requests = pd.DataFrame(
            {
                "at": pd.to_datetime(at_us, unit="us", utc=True),
                "watermark": -1,
                "shop": "a",
                "size": np.where(np.arange(n) % 2, matrix[:, 0].astype(float), np.nan),
                "count": matrix[:, 1].astype(np.int64),
                "note": [None if i % 3 else "x" for i in range(n)],
            }
        )
        columns = ("size", "count", "noise")
        return TrainingSet(
            X=matrix, y=labels, at=at_us.astype("datetime64[us]"), columns=columns,
            prediction_ids=np.arange(n).astype(object), requests=requests,
            fingerprint=fingerprint(matrix, labels, at_us, columns), dropped={"too small": 3},
        )  # fmt: skip

    return make
