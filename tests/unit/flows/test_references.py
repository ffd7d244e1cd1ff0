"""A version carries its reference profile; older ones get one from their recorded rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.policy import Policy
from features.offline.log import OfflineLog
from flows import references
from flows.references import load_reference, reference_files
from monitoring.profile_json import FILE

COLUMNS = ("fare", "zone")
sales = SimpleNamespace(name="sales")
USE_CASE: Any = SimpleNamespace(
    codes=("zone",), categorical=("zone",), sources=(sales,), policy=Policy(segments=("shop", "zone", "absent"))
)
ROWS, HOLDOUT = 600, 100


@pytest.fixture
def training() -> Any:
    rng = np.random.default_rng(1)
    matrix = np.c_[rng.normal(size=ROWS), rng.integers(1, 3, ROWS)].astype(np.float32)
    at = np.datetime64("2026-01-01", "us") + np.arange(ROWS).astype("timedelta64[h]")
    requests = pd.DataFrame({"shop": np.where(np.arange(ROWS) % 2, "a", "b")})
    return SimpleNamespace(X=matrix, y=rng.integers(0, 2, ROWS), at=at, columns=COLUMNS, requests=requests)


@pytest.fixture
def candidate(training: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(references, "permutation_importance", lambda candidate: np.array([0.03, 0.01]))
    holdout = SimpleNamespace(y=training.y[-HOLDOUT:], scores=np.linspace(0, 1, HOLDOUT, dtype=np.float32))
    return SimpleNamespace(use_case_file=SimpleNamespace(use_case=USE_CASE), columns=COLUMNS, holdout=holdout)


def test_the_profile_is_of_all_rows_and_its_scores_of_those_not_learnt_from(
    candidate: Any, training: Any, tmp_path: Path
) -> None:
    log = OfflineLog(tmp_path / "offline")
    known_at = pd.to_datetime(training.at, utc=True)[[0, 1, 2, 7, 500]]
    events = pd.DataFrame({"id": list("abcde"), "at": known_at, "known_at": known_at, "position": range(1, 6)})
    log.write("log-0", 5, {"events/sales": events.assign(shop="a", amount=1.0)})
    (tmp_path / FILE).write_bytes(reference_files(candidate, training, log)[FILE])
    found = load_reference(USE_CASE, tmp_path)
    rows = {name: int(found.histograms.of(name).sum()) for name in found.histograms.places}
    assert rows == {"fare": ROWS, "zone": ROWS, "score": HOLDOUT, "label": ROWS, "residual": HOLDOUT}
    assert found.importance == pytest.approx({"fare": 0.75, "zone": 0.25})
    assert found.pauses_s == {"sales": 493 * 3600.0}
    assert sorted(found.segments) == ["shop=a", "shop=b", "zone=1", "zone=2"]


def test_a_version_without_a_profile_is_profiled_from_its_recorded_rows(training: Any, tmp_path: Path) -> None:
    recorded = pd.DataFrame(training.X, columns=list(COLUMNS)).assign(
        score=0.5, label=training.y, at=pd.to_datetime(training.at, utc=True)
    )
    recorded.to_parquet(tmp_path / "reference.parquet")
    found = load_reference(USE_CASE, tmp_path)
    assert (found.rows, [column.kind for column in found.features]) == (ROWS, ["number", "code"])
    assert found.from_us == training.at[0].astype("int64")
