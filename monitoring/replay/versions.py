"""What a replay trains and judges: versions of the past, and who makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from core.decision import Decision
from monitoring.live import LiveVersion

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """A version that was trained on the past.

    Args:
        version: its name: the moment, and what it was trained on.
        as_of: the moment it was trained as of.
        log_loss: on its holdout, in nats.
        auc: likewise, in [0, 1]; None with one label only.
        scores: its answers to all that was asked, float32 (n,); NaN where it is never asked.
        holdout: positions of the rows it was measured on, the newest that were labelled then.
        compute_s: what it took.
        training_rows: positions of all rows it was made of, holdout included.
        make_live: what a look needs of it; made when it first answers.
    """

    version: str
    as_of: datetime
    log_loss: float
    auc: float | None
    scores: Scores
    holdout: npt.NDArray[np.int64]
    compute_s: float
    training_rows: npt.NDArray[np.int64]
    make_live: Callable[[], LiveVersion]


class Trainer(Protocol):
    """Trains as of a moment. Must be repeatable: the same moment gives the same versions, whoever asks."""

    def train(self, moment: datetime) -> tuple[Trained, ...]:
        """A version for each selection of the policy; none if there are too few labels."""
        ...


class Gate(Protocol):
    """Judges like the registry's gate. Must be pure."""

    def judge(self, challengers: tuple[Trained, ...], champion: Trained | None) -> tuple[Trained, Decision]:
        """The best of the challengers, and whether it is to be promoted."""
        ...
