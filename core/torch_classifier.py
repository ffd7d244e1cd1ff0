"""A PyTorch network behind scikit-learn's classifier interface."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    _Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_FEWEST_VALIDATION_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class TorchTraining:
    """How a network is trained.

    Args:
        epochs: most passes over the rows.
        patience: passes without a lower validation loss after which training stops.
        batch_rows: rows per step.
        learning_rate: Adam's step size.
        weight_decay: decoupled L2 shrinkage per step, in units of the learning rate.
        validation_ratio: share of the rows, the newest, that training is stopped by.
        seed: decides initial weights, order of rows and dropout.
    """

    epochs: int = 20
    patience: int = 2
    batch_rows: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    validation_ratio: float = 0.1
    seed: int = 0


class TorchClassifier:
    """Trains a network of one's own: the ``estimator`` of a use case that wants PyTorch.

    Quantities are standardised (missing ones become the mean) before the network sees them, by a layer
    that is part of the module and of its ONNX graph. Training is deterministic: it runs on one thread,
    with its own random state, and leaves torch's global state as it was.

    Args:
        build: makes an untrained module for a number of columns; it maps float32 (n, columns) to logits
            (n,). Import torch inside it, so that reading the use case does not load torch.
        codes: positions of columns handed through as they are, e.g. indices into an embedding.
        training: how to train.

    Example:
        >>> def build(columns):
        ...     import torch
        ...     return torch.nn.Sequential(torch.nn.Linear(columns, 1), torch.nn.Flatten(0))
        >>> rows = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
        >>> model = TorchClassifier(build, training=TorchTraining(batch_rows=16, learning_rate=0.1))
        >>> model.fit(rows, (rows[:, 0] > 0).astype(np.int64)).predict_proba(rows[-1:])[0, 1] > 0.9
        np.True_
    """

    def __init__(
        self,
        build: Callable[[int], torch.nn.Module],
        *,
        codes: tuple[int, ...] = (),
        training: TorchTraining | None = None,
    ) -> None:
        self._build = build
        self._codes = codes
        self._training = training or TorchTraining()
        self._module: torch.nn.Module | None = None
        self._known: Mapping[str, npt.NDArray[Any]] | None = None
        self.classes_: npt.NDArray[np.int64] = np.array([0, 1])
        self.epochs_ = 0

    @property
    def module(self) -> torch.nn.Module:
        """The trained module in evaluation mode: float32 (n, columns) -> logits (n,).

        Raises:
            RuntimeError: before ``fit``.
        """
        if self._module is None:
            raise RuntimeError("TorchClassifier is not fitted: call fit(X, y) first.")
        return self._module

    def get_params(self, deep: bool = False) -> Mapping[str, Any]:
        """How it trains, for the record of a run."""
        return {**asdict(self._training), "codes": self._codes}

    def __getstate__(self) -> dict[str, Any]:
        """What a later training can go on from: the weights, without the function that builds the network."""
        return {"codes": self._codes, "training": self._training, "weights": self._weights(), "epochs": self.epochs_}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Become something to go on from; it answers nothing by itself."""
        self.__init__(_cannot_build, codes=state["codes"], training=state["training"])  # type: ignore[misc]
        self._known, self.epochs_ = state["weights"], state["epochs"]

    def start_from(self, trained: TorchClassifier) -> TorchClassifier:
        """Let the next `fit` begin with another's weights and standardisation instead of fresh ones.

        Args:
            trained: of the same network on the same columns; it is not changed.

        Raises:
            RuntimeError: if it was never fitted. `fit` raises it if the networks differ.
        """
        self._known = trained._weights()
        return self

    def _weights(self) -> Mapping[str, npt.NDArray[Any]]:
        if self._module is None and self._known is not None:
            return self._known
        return {name: tensor.numpy().copy() for name, tensor in self.module.state_dict().items()}

    def fit(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.int64],
        sample_weight: npt.NDArray[np.float32] | None = None,
    ) -> TorchClassifier:
        """Train on rows sorted by time; the newest of them decide when to stop.

        Args:
            X: float32 (n, columns); NaN means missing and is allowed outside `codes`.
            y: (n,) of 0 and 1.
            sample_weight: (n,), how much each row counts, 1 on average; None: all alike.

        Returns:
            This object.
        """
        import torch

        matrix = np.ascontiguousarray(X, dtype=np.float32)
        held = math.ceil(len(matrix) * self._training.validation_ratio)
        held = held if held >= _FEWEST_VALIDATION_ROWS else 0
        fitted = len(matrix) - held
        mean, scale = _moments(matrix[:fitted], self._codes)
        with _reproducible(self._training.seed):
            module = torch.nn.Sequential(_standardiser(mean, scale), self._build(matrix.shape[1]))
            if self._known is not None:
                module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self._known.items()})
            counts = np.ones(len(matrix)) if sample_weight is None else sample_weight
            parts = (torch.from_numpy(np.asarray(part, dtype=np.float32)) for part in (matrix, y, counts))
            rows, labels, weights = parts
            self.epochs_ = _train(
                module,
                (rows[:fitted], labels[:fitted], weights[:fitted]),
                (rows[fitted:], labels[fitted:], weights[fitted:]),
                self._training,
            )
        self._module = module.eval()
        return self

    def predict_proba(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities (n, 2) of no and yes, for float32 (n, columns)."""
        import torch

        with torch.no_grad():
            rows = torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))
            scores = torch.sigmoid(self.module(rows)).numpy()
        return np.stack([1 - scores, scores], axis=1)


def _moments(
    matrix: npt.NDArray[np.float32], codes: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation per column over the values present; 0 and 1 for codes and for empty columns."""
    present = ~np.isnan(matrix)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, matrix, 0).astype(np.float64)
    mean = values.sum(axis=0) / count
    scale = np.sqrt((np.where(present, values - mean, 0) ** 2).sum(axis=0) / count)
    scale[scale < 1e-12] = 1.0
    mean[list(codes)], scale[list(codes)] = 0.0, 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


def _standardiser(mean: npt.NDArray[np.float32], scale: npt.NDArray[np.float32]) -> torch.nn.Module:
    import torch

    class Standardiser(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
        """Centres and scales columns; what is missing becomes 0, the mean."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("scale", torch.from_numpy(scale))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            scaled = (rows - self.mean) / self.scale
            return torch.where(torch.isnan(scaled), torch.zeros_like(scaled), scaled)

    return Standardiser()


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Torch on one thread with its own random state; both are put back at the end."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _train(
    module: torch.nn.Module,
    fitted: _Rows,
    held: _Rows,
    training: TorchTraining,
) -> int:
    """Train in place, go back to the pass with the lowest validation loss; returns the passes that count."""
    import torch

    optimizer = torch.optim.AdamW(module.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    best_loss, best_epoch, best_state = math.inf, training.epochs, None
    for epoch in range(1, training.epochs + 1):
        _pass_over(module, fitted, optimizer, training.batch_rows)
        if not len(held[0]):
            continue
        module.eval()
        with torch.no_grad():
            loss = _loss(module, *held).item()
        if loss < best_loss:
            best_loss, best_epoch, best_state = loss, epoch, deepcopy(module.state_dict())
        elif epoch - best_epoch >= training.patience:
            break
    if best_state is not None:
        module.load_state_dict(best_state)
    return best_epoch


def _pass_over(
    module: torch.nn.Module,
    rows: _Rows,
    optimizer: torch.optim.Optimizer,
    batch_rows: int,
) -> None:
    import torch

    module.train()
    for batch in torch.randperm(len(rows[0])).split(batch_rows):
        optimizer.zero_grad()
        loss = _loss(module, *(part[batch] for part in rows))
        loss.backward()
        optimizer.step()


def _loss(module: torch.nn.Module, rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.binary_cross_entropy_with_logits(module(rows), labels, weight=weights)


def _cannot_build(columns: int) -> torch.nn.Module:
    raise RuntimeError(f"These are the weights of a network of {columns} columns: start_from them.")
