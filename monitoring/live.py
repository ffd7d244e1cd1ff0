"""What a look is at: the version that answers, what was logged of it, and what came before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pandas as pd

from core.use_case import UseCase
from monitoring.facts import Kind, MonitorFacts
from monitoring.profile import ReferenceProfile

LOOKS = 16
"""How many looks before are looked back on at most."""


@dataclass(frozen=True)
class LiveVersion:
    """The version that answers, as it was when it was made.

    Args:
        version: its number.
        trained_at: event time of its training set.
        log_loss: on its holdout, in nats.
        reference: features, ``score`` and ``label`` of its holdout, or of its newest rows.
        holdout_rows: how many rows `log_loss` was measured on; 0 if unknown.
        profile: of all rows it was made of; None: drift and faults are not looked for.
    """

    version: str
    trained_at: datetime
    log_loss: float
    reference: pd.DataFrame
    holdout_rows: int = 0
    profile: ReferenceProfile | None = None


@dataclass(frozen=True)
class Served:
    """What was logged.

    Args:
        predictions: of the window and of one horizon before it, of any version.
        labels: of the same span.
    """

    predictions: pd.DataFrame
    labels: pd.DataFrame


Earlier = Callable[[datetime, datetime], Served]
"""Reads what was answered to questions of [since, until): ``prediction_id, at, version, score``, and its labels."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """What came before a look.

    Args:
        looks: facts of the looks before that are `worth_remembering`, oldest first.
        last_retrain_at: what moment the newest retrain was called for; None if there was none.
        refused: retrains since the last promotion whose versions the gate kept back.
        refused_kinds: kinds of drift that were called when these were called for.
        retrain_s: what retrains took lately, in compute seconds; None if unknown.
        labels_since_training: labels that no training has seen.
        newest_event_at: of each event source, when its newest event was; those left out are not judged.
        earlier: reads windows from before this look's; None: what was found of them is not corrected.
    """

    looks: Sequence[MonitorFacts] = ()
    last_retrain_at: datetime | None = None
    refused: int = 0
    refused_kinds: tuple[Kind, ...] = ()
    retrain_s: float | None = None
    labels_since_training: int = 0
    newest_event_at: Mapping[str, datetime] = field(default_factory=dict)
    earlier: Earlier | None = None


def worth_remembering(moments: Sequence[datetime], apart: timedelta) -> list[int]:
    """Which earlier looks the next one needs: the newest, and before it those that are a window apart.

    Args:
        moments: of the looks, rising.
        apart: the length of a window.

    Returns:
        Positions, rising, at most `LOOKS`.

    Example:
        >>> days = [datetime(2019, 2, day) for day in (1, 4, 7, 8)]
        >>> worth_remembering(days, timedelta(days=3))
        [0, 1, 3]
    """
    kept: list[int] = []
    for i in range(len(moments) - 1, -1, -1):
        if len(kept) == LOOKS:
            break
        if not kept or moments[kept[-1]] - moments[i] >= apart:
            kept.append(i)
    return kept[::-1]


def window_start(use_case: UseCase, as_of: datetime) -> datetime:
    """From when on predictions are needed for a look at `as_of`: the window, and the time labels take."""
    return as_of - use_case.policy.monitor_window - use_case.label.horizon
