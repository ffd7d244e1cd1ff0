from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.discovery import UseCaseFile, load_use_case
from core.torch_classifier import TorchClassifier
from core.use_case import History, UseCase
from features.definitions import feature_set
from features.offline.training import TrainingSet
from registry.candidate import build_candidate

ROOT = Path(__file__).parents[3]
FILE = ROOT / "models" / "ad_click.py"
CATEGORIES = ["cat1", "cat4", "cat6", "cat8", "cat9"]


@pytest.fixture(scope="module")
def loaded() -> UseCaseFile:
    return load_use_case(FILE)


@pytest.fixture(scope="module")
def use_case(loaded: UseCaseFile) -> UseCase:
    return loaded.use_case


@pytest.fixture(scope="module")
def past(use_case: UseCase) -> History:
    return use_case.history(ROOT / "data")


def test_requests_are_all_impressions_in_their_order(past: History) -> None:
    requests = past.requests
    assert list(requests.columns) == ["key", "at", *CATEGORIES]
    assert len(requests) == 165_152
    assert requests["key"].is_unique and isinstance(requests["key"].iloc[0], str)
    assert str(requests["at"].dtype) == "datetime64[us, UTC]"
    assert requests["at"].is_monotonic_increasing and requests["at"].is_unique
    assert requests["at"].iloc[0] >= datetime(2017, 1, 1, tzinfo=UTC)
    assert requests["at"].iloc[-1] < datetime(2017, 1, 31, tzinfo=UTC)


def test_labels_come_half_an_hour_later_and_within_the_horizon(use_case: UseCase, past: History) -> None:
    assert list(past.labels.columns) == ["key", "label", "at"]
    assert past.labels["key"].equals(past.requests["key"])
    assert set(past.labels["label"]) == {0, 1}
    assert past.labels["label"].mean() == pytest.approx(0.361, abs=0.001)
    assert ((past.labels["at"] - past.requests["at"]) == timedelta(minutes=30)).all()
    assert use_case.label.horizon >= timedelta(minutes=30)


def test_events_become_known_with_the_label(use_case: UseCase, past: History) -> None:
    events = past.events["ad_impressions"]
    assert set(events.columns) == {"id", "at", *(f.name for f in use_case.source("ad_impressions").fields)}
    assert events["id"].is_unique
    assert events["at"].is_monotonic_increasing
    assert events["at"].equals(past.labels["at"])
    assert events["click"].equals(past.labels["label"].rename("click"))


def test_every_value_is_one_its_field_accepts(use_case: UseCase, past: History) -> None:
    for field in use_case.entities:
        values = past.requests[field.name]
        assert values.dtype == np.int64
        assert field.ge is not None and field.le is not None
        assert values.between(field.ge, field.le).all()
        assert field.example in set(values)


def test_codes_are_exact_in_float32_and_keep_categories_apart(use_case: UseCase, past: History) -> None:
    (view,) = feature_set(use_case).request_views
    codes = view.compute({name: past.requests[name].to_numpy() for name in CATEGORIES})
    for name in CATEGORIES:
        code = np.asarray(codes[f"{name}_code"])
        assert np.array_equal(code.astype(np.float32).astype(np.int64), code)
        assert len(np.unique(code)) == past.requests[name].nunique()
        assert code.max() < 509


def test_the_click_is_read_from_past_events_only(use_case: UseCase) -> None:
    assert "click" in use_case.label.known_only_after
    assert "click" not in {field.name for field in use_case.request_fields}
    assert set(use_case.categorical) == {f"{name}_code" for name in CATEGORIES}


def test_the_long_run_rate_is_drawn_towards_the_base_rate(use_case: UseCase) -> None:
    view = feature_set(use_case).batch_views[0]
    events = pd.DataFrame({"cat6": [1] * 1000 + [2], "click": [1, 0] * 500 + [1]})
    frame = view.compute(events, datetime(2017, 1, 9, tzinfo=UTC))
    assert frame.loc[1, "click_rate"] == pytest.approx(0.5, abs=0.01)
    assert frame.loc[2, "click_rate"] == pytest.approx(0.36, abs=0.02)
    assert frame["share"].sum() == pytest.approx(1)


def test_reading_the_file_does_not_load_torch() -> None:
    program = f"import sys, pathlib; from core.discovery import load_use_case as l; l(pathlib.Path({str(FILE)!r}))"
    answer = subprocess.run([sys.executable, "-c", f"{program}; sys.exit('torch' in sys.modules)"], cwd=ROOT)
    assert answer.returncode == 0


@pytest.mark.slow
def test_its_network_trains_and_serves_alike(loaded: UseCaseFile, past: History) -> None:
    """Features that a store would supply are stood in for by constants: the codes alone carry most of the signal."""
    n, use_case = 12_000, loaded.use_case
    requests = past.requests.head(n).assign(watermark=-1)
    (view,) = feature_set(use_case).request_views
    codes = view.compute({name: requests[name].to_numpy() for name in CATEGORIES})
    columns = use_case.features.columns
    matrix = np.full((n, len(columns)), 0.36, dtype=np.float32)
    for name, code in codes.items():
        matrix[:, columns.index(name)] = code
    training = TrainingSet(
        X=matrix, y=past.labels["label"].head(n).to_numpy(), at=_naive(requests["at"]), columns=columns,
        prediction_ids=requests["key"].to_numpy(), requests=requests, fingerprint="0" * 64, dropped={},
    )  # fmt: skip
    candidate = build_candidate(loaded, training)
    assert candidate.profile["parity_difference"] <= 1e-5
    assert candidate.profile["log_loss"] < candidate.profile["base_rate_log_loss"]
    assert candidate.profile["auc"] > 0.58
    assert isinstance(use_case.estimator(columns), TorchClassifier)


def _naive(moments: pd.Series) -> Any:
    return moments.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
