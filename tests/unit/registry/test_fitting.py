from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from core.errors import TrainingError
from core.torch_classifier import TorchClassifier, TorchTraining
from registry.estimator_store import EstimatorStore
from registry.fitting import fit, go_on

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.normal(size=400) > 0).astype(np.int64)
OLD, NEW = slice(0, 200), slice(200, 400)


def network(columns: int) -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(columns, 1), torch.nn.Flatten(0))


def torch_classifier(learning_rate: float = 0.05) -> TorchClassifier:
    return TorchClassifier(network, training=TorchTraining(epochs=12, batch_rows=32, learning_rate=learning_rate))


def scores(estimator: Any) -> Any:
    return estimator.predict_proba(X)[:, 1]


@pytest.mark.parametrize(
    "make", [LogisticRegression, lambda: make_pipeline(StandardScaler(), LogisticRegression()), torch_classifier]
)
def test_rows_without_weight_have_no_part(make: Any) -> None:
    weights = np.r_[np.zeros(200), np.full(200, 1.0)].astype(np.float32)
    flipped = np.r_[1 - Y[OLD], Y[NEW]]
    weighted, plain = fit(make(), X, flipped, weights), fit(make(), X, flipped)
    right = (scores(weighted) > 0.5) == Y
    assert right.mean() > 0.85 > ((scores(plain) > 0.5) == Y).mean()


def test_weights_are_refused_where_they_cannot_be_used() -> None:
    with pytest.raises(TrainingError, match="KNeighborsClassifier cannot weigh rows"):
        fit(KNeighborsClassifier(), X, Y, np.ones(400, dtype=np.float32))


def test_an_ensemble_grows_by_a_quarter_until_it_has_twice_its_trees() -> None:
    def fresh() -> GradientBoostingClassifier:
        return GradientBoostingClassifier(n_estimators=8, random_state=0)

    model, trees = fit(fresh(), X[OLD], Y[OLD]), []
    for _ in range(5):
        before = model
        model, went_on = go_on(fresh(), model, X[NEW], Y[NEW])
        trees.append((len(model.estimators_), went_on))
        assert before is not model
    assert trees == [(10, True), (12, True), (14, True), (16, True), (8, False)]


def test_the_trees_there_were_stay() -> None:
    first = fit(GradientBoostingClassifier(n_estimators=4, random_state=0), X[OLD], Y[OLD])
    second, _ = go_on(GradientBoostingClassifier(n_estimators=4, random_state=0), first, X[NEW], 1 - Y[NEW])
    assert len(first.estimators_) == 4
    for before, after in zip(first.estimators_[:, 0], second.estimators_[:4, 0], strict=True):
        assert np.array_equal(before.tree_.threshold, after.tree_.threshold)


@pytest.mark.parametrize("make", [lambda: SGDClassifier(loss="log_loss", random_state=0), GaussianNB])
def test_it_goes_on_from_what_was_learnt(make: Any) -> None:
    first = fit(make(), X[OLD], Y[OLD])
    second, went_on = go_on(make(), first, X[NEW][:50], Y[NEW][:50])
    assert went_on
    assert ((scores(second) > 0.5) == Y).mean() > 0.8


def test_of_a_pipeline_the_last_step_goes_on_and_its_inputs_keep_their_meaning() -> None:
    first = fit(make_pipeline(StandardScaler(), LogisticRegression()), X[OLD], Y[OLD])
    second, went_on = go_on(make_pipeline(StandardScaler(), LogisticRegression()), first, X[NEW] * 100, Y[NEW])
    assert went_on and isinstance(second, Pipeline)
    assert np.array_equal(first[0].mean_, second[0].mean_)
    assert not np.array_equal(first[-1].coef_, second[-1].coef_)


def test_a_network_goes_on_from_its_weights_also_when_it_was_kept(tmp_path: Any) -> None:
    first = fit(torch_classifier(), X[OLD], Y[OLD])
    store = EstimatorStore(tmp_path / "estimators")
    assert store.keep("taxi_tip", "d1", first)
    kept = store.load("taxi_tip", "d1")
    slow = go_on(torch_classifier(1e-9), kept, X[NEW] + 5, Y[NEW])[0]
    assert np.allclose(scores(slow), scores(first), atol=1e-5)
    assert not np.allclose(scores(fit(torch_classifier(1e-9), X[NEW] + 5, Y[NEW])), scores(first), atol=0.05)


def test_without_an_earlier_one_it_begins_anew() -> None:
    model, went_on = go_on(LogisticRegression(), None, X, Y)
    assert not went_on and np.array_equal(scores(model), scores(fit(LogisticRegression(), X, Y)))
    assert not go_on(LogisticRegression(), GaussianNB().fit(X, Y), X, Y)[1]


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (HistGradientBoostingClassifier(), "valid on the rows it was fitted on only"),
        (KNeighborsClassifier(), "neither warm_start nor partial_fit"),
    ],
)
def test_what_cannot_go_on_is_refused_even_before_there_is_anything_to_go_on_from(estimator: Any, why: str) -> None:
    with pytest.raises(TrainingError, match=f"{type(estimator).__name__} cannot go on from an earlier version.*{why}"):
        go_on(estimator, None, X, Y)


def test_boosting_by_histograms_really_cannot() -> None:
    """Why it is refused: going on with rows in other units, it takes its own trees for something else."""
    first = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, warm_start=True).fit(X[OLD], Y[OLD])
    before = first._raw_predict(X[NEW] + 3)[:, 0]
    seen: list[Any] = []
    right = first._raw_predict
    first._raw_predict = lambda matrix, n_threads=None: seen.append(right(matrix, n_threads)) or seen[-1]
    first.set_params(max_iter=21).fit(X[NEW] + 3, Y[NEW])
    assert np.abs(seen[0][:, 0] - before).mean() > 0.5


def test_the_store_keeps_what_it_can_and_loses_nothing_else(tmp_path: Any) -> None:
    store = EstimatorStore(tmp_path / "estimators")
    assert not store.keep("taxi_tip", "d0", lambda: None)
    for i in range(25):
        store.keep("taxi_tip", f"d{i}", i)
    assert store.load("taxi_tip", "d24") == 24 and store.load("taxi_tip", "d3") is None
    assert (tmp_path / "estimators").stat().st_mode & 0o077 == 0
    (tmp_path / "estimators" / "taxi_tip" / "d24").write_bytes(b"torn")
    assert store.load("taxi_tip", "d24") is None
