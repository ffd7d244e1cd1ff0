"""What a policy did on the past, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from core.clock import from_us, to_us
from core.decision import Decision
from core.losses import row_log_loss
from monitoring.replay.asked import Asked
from monitoring.replay.versions import Scores

Losses = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of one look.

    Args:
        at: the moment of the look.
        decision: what was decided.
        aftermath: what became of the last promotion, as far as it was not settled before.
        verdict: the gate's, if anything was trained.
        champion: what answers from then on.
    """

    at: datetime
    decision: Decision
    aftermath: Decision | None
    verdict: Decision | None
    champion: str


@dataclass
class Course:
    """What a policy did, as long as it is on its way.

    Args:
        policy: its name.
        steps: the looks.
        scores: what was answered, float32 (n,); NaN before the first version.
        compute_s: of all trainings, the first included.
        retrains: how often training was called for, and done; the first training is not counted.
        promoted: how many of them went live.
        taken_back: of these, how many were taken back again.
        trained_at: the moments something was trained at.
    """

    policy: str
    scores: Scores
    steps: list[Step] = field(default_factory=list)
    compute_s: float = 0.0
    retrains: int = 0
    promoted: int = 0
    taken_back: int = 0
    trained_at: list[datetime] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Which part of the past is simulated.

    Args:
        start: when the first version is trained.
        end: where it ends.
        every: event time between two looks.
    """

    start: datetime
    end: datetime
    every: timedelta

    @property
    def steps(self) -> int:
        """How many looks there are."""
        return max(0, -(-(self.end - self.start) // self.every) - 1)


def losses_of(asked: Asked, scores: Scores) -> Losses:
    """Loss of every row in nats, float64 (n,); NaN where there is no score or no label."""
    found = np.full(len(asked), np.nan)
    there = (asked.label >= 0) & ~np.isnan(scores)
    found[there] = row_log_loss(asked.label[there].astype(np.float64), scores[there].astype(np.float64))
    return found


def step_of(asked: Asked, span: Span) -> npt.NDArray[np.int64]:
    """Which step each row was asked in, from 0; -1 before the first and after the last."""
    step = (asked.at_us - to_us(span.start)) // (span.every // timedelta(microseconds=1))
    outside = (asked.at_us < to_us(span.start)) | (asked.at_us >= to_us(span.end))
    return np.where(outside, -1, step)


def moments_of(span: Span) -> list[datetime]:
    """When each step begins: the start, and every look."""
    every_us = span.every // timedelta(microseconds=1)
    return [from_us(to_us(span.start) + i * every_us) for i in range(span.steps + 1)]
