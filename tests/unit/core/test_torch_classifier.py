from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.torch_classifier import TorchClassifier, TorchTraining

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def linear(columns: int) -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(columns, 1), torch.nn.Flatten(0))


def embedding(columns: int) -> Any:
    import torch

    class Lookup(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(5, 1)

        def forward(self, rows: Any) -> Any:
            return self.table(rows[:, 0].long()).squeeze(1)

    return Lookup()


def rows(n: int = 1000) -> tuple[Matrix, Labels]:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(n, 3)) * [1, 1000, 1e-3] + [0, 5e4, 0]).astype(np.float32)
    return matrix, (matrix[:, 1] > 5e4).astype(np.int64)


def weights(model: TorchClassifier) -> list[Any]:
    return [tensor.numpy().copy() for tensor in model.module.state_dict().values()]


def test_it_learns_from_columns_of_any_scale() -> None:
    matrix, labels = rows()
    model = TorchClassifier(linear, training=TorchTraining(learning_rate=0.05)).fit(matrix, labels)
    probabilities = model.predict_proba(matrix)
    assert probabilities.shape == (1000, 2) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert ((probabilities[:, 1] > 0.5) == labels).mean() > 0.95


def test_the_same_rows_give_the_same_weights_and_torch_stays_as_it_was() -> None:
    import torch

    matrix, labels = rows(300)
    torch.manual_seed(123)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first = weights(TorchClassifier(linear).fit(matrix, labels))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(456)
    second = weights(TorchClassifier(linear).fit(matrix, labels))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_other_weights() -> None:
    matrix, labels = rows(300)
    first, second = (
        weights(TorchClassifier(linear, training=TorchTraining(seed=s)).fit(matrix, labels)) for s in (0, 1)
    )
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_input_is_not_changed() -> None:
    matrix, labels = rows(200)
    matrix[0, 0] = np.nan
    kept = matrix.copy()
    TorchClassifier(linear).fit(matrix, labels).predict_proba(matrix)
    assert np.array_equal(matrix, kept, equal_nan=True)


def test_missing_quantities_count_as_the_mean() -> None:
    matrix, labels = rows()
    model = TorchClassifier(linear).fit(matrix, labels)
    missing, mean = matrix[:1].copy(), matrix[:1].copy()
    missing[0, 1], mean[0, 1] = np.nan, matrix[:900, 1].mean(dtype=np.float64)
    assert np.allclose(model.predict_proba(missing), model.predict_proba(mean), atol=1e-5)


def test_constant_and_empty_columns_do_no_harm() -> None:
    matrix, labels = rows(300)
    matrix[:, 0], matrix[:, 2] = 7, np.nan
    assert np.isfinite(TorchClassifier(linear).fit(matrix, labels).predict_proba(matrix)).all()


def test_codes_reach_the_network_as_they_are() -> None:
    codes = np.random.default_rng(0).integers(0, 5, (2000, 1)).astype(np.float32)
    labels = np.isin(codes[:, 0], (1, 4)).astype(np.int64)
    training = TorchTraining(learning_rate=0.1, batch_rows=64)
    model = TorchClassifier(embedding, codes=(0,), training=training).fit(codes, labels)
    answers = model.predict_proba(np.arange(5, dtype=np.float32)[:, None])[:, 1] > 0.5
    assert answers.tolist() == [False, True, False, False, True]


def test_training_stops_when_the_newest_rows_stop_gaining() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(400, 3)).astype(np.float32)
    labels = np.r_[matrix[:360, 0] > 0, matrix[360:, 0] < 0].astype(np.int64)  # the newest contradict the rest
    model = TorchClassifier(linear, training=TorchTraining(epochs=50, learning_rate=0.05)).fit(matrix, labels)
    assert model.epochs_ == 1


def test_without_enough_rows_to_stop_by_every_pass_is_made() -> None:
    matrix, labels = rows(50)
    assert TorchClassifier(linear, training=TorchTraining(epochs=3)).fit(matrix, labels).epochs_ == 3


def test_before_fit_there_is_no_module() -> None:
    with pytest.raises(RuntimeError, match="not fitted"):
        TorchClassifier(linear).predict_proba(np.zeros((1, 3), dtype=np.float32))


def test_its_parameters_are_told() -> None:
    told = TorchClassifier(linear, codes=(0,), training=TorchTraining(epochs=3)).get_params()
    assert told["epochs"] == 3 and told["codes"] == (0,)


def test_importing_and_making_one_does_not_load_torch() -> None:
    program = (
        "import sys; from core.torch_classifier import TorchClassifier as T; T(id); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
