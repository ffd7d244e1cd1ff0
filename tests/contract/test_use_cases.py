"""What every file in models/ must satisfy, run over all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redis

from core.discovery import UseCaseFile, discover
from features.batch.materialization import materialize_view
from features.columns import compute_view, request_columns
from features.definitions import feature_set
from features.offline.importing import instances_of
from features.offline.log import OfflineLog
from features.offline.point_in_time import point_in_time_matrix, to_us_array
from features.offline.training import TrainingSet, build_training_set
from features.streams import Keys
from features.tables import TableAccess
from registry.export import check_parity, to_onnx
from registry.scorer import OnnxScorer

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "models").glob("*.py") if not path.name.startswith("_"))
FOUND = discover(ROOT / "models")
QUESTIONS = 6000


@pytest.fixture(scope="module", params=sorted(FOUND))
def loaded(request: pytest.FixtureRequest) -> UseCaseFile:
    return FOUND[request.param]


@pytest.fixture(scope="module")
def log(loaded: UseCaseFile, tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> OfflineLog:
    """The offline log of the first questions of the history, and of all tables."""
    use_case = loaded.use_case
    history = use_case.history(ROOT / "data")
    requests = history.requests.iloc[:QUESTIONS]
    labels = history.labels[history.labels["key"].isin(requests["key"])]
    log = OfflineLog(tmp_path_factory.mktemp(use_case.name))
    position, tables = 1, {}
    for source, events in history.events.items():
        part = events[events["at"] <= labels["at"].max()]
        position += len(part)
        places = np.arange(position - len(part), position)
        tables[f"events/{source}"] = part.assign(known_at=part["at"], position=places, row=0)
    log.write("log-0", position, tables)
    rows = requests.assign(
        prediction_id=requests["key"], known_at=requests["at"], version="", score=np.nan,
        degraded=False, position=1,
    )  # fmt: skip
    log.write("predictions", 1, {f"predictions/{use_case.name}": rows.drop(columns="key")})
    known = labels.rename(columns={"key": "prediction_id"}).assign(known_at=labels["at"], position=1)
    log.write("labels", 1, {f"labels/{use_case.name}": known})
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        for view in feature_set(use_case).batch_views:
            if not isinstance(view.source, str):
                materialize_view(
                    client, Keys("contract"), log, use_case, view, history.requests["at"].iloc[QUESTIONS],
                    access=TableAccess(ROOT / "data"),
                )  # fmt: skip
    return log


@pytest.fixture(scope="module")
def training(loaded: UseCaseFile, log: OfflineLog) -> TrainingSet:
    return _training(loaded, log)


def _training(loaded: UseCaseFile, log: OfflineLog) -> TrainingSet:
    far = datetime(2100, 1, 1, tzinfo=UTC)
    return build_training_set(log, loaded.use_case, as_of=far, since=datetime(1990, 1, 1, tzinfo=UTC))


def test_every_file_is_found() -> None:
    assert [loaded.path for loaded in FOUND.values()] == FILES


def test_history_is_as_declared(loaded: UseCaseFile) -> None:
    use_case = loaded.use_case
    history = use_case.history(ROOT / "data")
    fields = [f.name for f in use_case.request_fields]
    assert list(history.requests.columns) == ["key", "at", *fields]
    assert list(history.labels.columns) == ["key", "label", "at"]
    assert history.requests["key"].is_unique
    assert set(history.labels["label"]) == {0, 1}
    asked = history.requests.set_index("key")["at"].reindex(history.labels["key"])
    delay = history.labels["at"].reset_index(drop=True) - asked.reset_index(drop=True)
    assert delay.min() > timedelta(0), "a label is known before the question was asked"
    assert delay.max() <= use_case.label.horizon
    for frame in (history.requests, history.labels, *history.events.values()):
        assert frame["at"].is_monotonic_increasing
        assert str(frame["at"].dtype) == "datetime64[us, UTC]"
    for source in use_case.sources:
        events = history.events[source.name]
        assert events["id"].is_unique
        assert {"id", "at", *(f.name for f in source.fields)} == set(events.columns)


def test_every_question_keeps_its_declared_bounds(loaded: UseCaseFile) -> None:
    requests = loaded.use_case.history(ROOT / "data").requests
    for field in loaded.use_case.request_fields:
        values = requests[field.name]
        assert field.nullable or values.notna().all(), field.name
        if field.dtype != "str":
            assert field.ge is None or not (values < field.ge).any(), field.name
            assert field.le is None or not (values > field.le).any(), field.name


def test_the_examples_are_a_valid_request(loaded: UseCaseFile) -> None:
    assert all(f.example is not None or f.nullable for f in loaded.use_case.request_fields)


def test_request_features_do_not_change_their_input(loaded: UseCaseFile, training: TrainingSet) -> None:
    use_case = loaded.use_case
    instances = instances_of(use_case, training.requests.iloc[:50])
    columns = request_columns(use_case.request_fields, instances, to_us_array(training.requests["at"].iloc[:50]))
    before = {name: values.copy() for name, values in columns.items()}
    for values in columns.values():
        values.flags.writeable = False
    for view in feature_set(use_case).request_views:
        assert np.isfinite(compute_view(view, columns)).mean() > 0.5
    for name, values in before.items():
        np.testing.assert_array_equal(columns[name], values)


def test_a_row_alone_has_the_features_it_has_among_others(
    loaded: UseCaseFile, log: OfflineLog, training: TrainingSet
) -> None:
    some = training.requests.iloc[[5, 700, 3000]]
    np.testing.assert_array_equal(training.X[[5, 700, 3000]], point_in_time_matrix(log, loaded.use_case, some))


def test_the_same_log_gives_the_same_training_set(loaded: UseCaseFile, log: OfflineLog, training: TrainingSet) -> None:
    assert _training(loaded, log).fingerprint == training.fingerprint


def test_no_feature_is_the_label_in_disguise(training: TrainingSet) -> None:
    from registry.metrics import auc

    for i, column in enumerate(training.columns):
        score = np.nan_to_num(training.X[:, i])
        value = auc(training.y, score)
        assert value is None or 0.05 < value < 0.95, f"{column} alone has AUC {value}"


@pytest.mark.slow
def test_training_is_repeatable_and_onnx_agrees(loaded: UseCaseFile, training: TrainingSet) -> None:
    use_case = loaded.use_case
    cut = len(training.y) - 1500
    models = [use_case.estimator(training.columns).fit(training.X[:cut], training.y[:cut]) for _ in range(2)]
    fresh = training.X[cut:]
    first, second = (model.predict_proba(fresh)[:, 1] for model in models)
    np.testing.assert_array_equal(first, second)
    graph = to_onnx(models[0], training.columns, use_case.name)
    assert check_parity(models[0], graph, fresh, use_case=use_case.name) <= 1e-5
    assert np.abs(OnnxScorer(graph).score(fresh) - first).max() <= 1e-5
    assert pd.Series(first).nunique() > 10
