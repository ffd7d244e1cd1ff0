"""When to retrain, as a use case declares it: small conditions, put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

DRIFT_KINDS = ("data", "prediction", "label", "concept")
"""What can drift: inputs, scores, labels, or what the inputs say of the labels."""


@dataclass(frozen=True)
class Never:
    """Not at all."""


@dataclass(frozen=True)
class Always:
    """At every look."""


@dataclass(frozen=True)
class Schedule:
    """When the last training was called for so long ago.

    Args:
        every: event time.
    """

    every: timedelta


@dataclass(frozen=True)
class NewLabels:
    """When so many labels came that no training has seen.

    Args:
        rows: how many.
    """

    rows: int


@dataclass(frozen=True)
class Drift:
    """When inputs, scores, labels or their relation have moved beyond the reference's own variation.

    Args:
        kinds: which of `DRIFT_KINDS` count.
    """

    kinds: tuple[str, ...] = DRIFT_KINDS


@dataclass(frozen=True)
class PerformanceDrop:
    """When the measured log-loss is so much above the version's reference.

    Args:
        by: relative rise, e.g. 0.1.
    """

    by: float


@dataclass(frozen=True)
class EstimatedDrop:
    """When the log-loss estimated for predictions without labels is so much above the version's reference.

    Args:
        by: relative rise, e.g. 0.1.
    """

    by: float


@dataclass(frozen=True)
class WorthIt:
    """When a retrain is expected to gain more than it costs.

    The gain is the loss that the recent losses, against the version's reference, let expect until the next look, over
    the predictions asked for until then; the cost is the measured time of a retrain.

    Args:
        nats_per_compute_s: summed log-loss, in nats, that a second of computing is worth.
    """

    nats_per_compute_s: float = 1.0


@dataclass(frozen=True)
class AnyOf:
    """When one of these calls for it.

    Args:
        triggers: at least one.
    """

    triggers: tuple[Trigger, ...]


@dataclass(frozen=True)
class AllOf:
    """When all of these call for it.

    Args:
        triggers: at least one.
    """

    triggers: tuple[Trigger, ...]


@dataclass(frozen=True)
class KOf:
    """When so many of these call for it.

    Args:
        k: how many.
        triggers: at least `k`.
    """

    k: int
    triggers: tuple[Trigger, ...]


def calls_upon(trigger: Trigger, kind: type) -> bool:
    """Whether a trigger is of a kind, or put together from one that is.

    Example:
        >>> calls_upon(AllOf((Drift(), NewLabels(9))), Drift), calls_upon(Never(), Drift)
        (True, False)
    """
    parts = trigger.triggers if isinstance(trigger, AnyOf | AllOf | KOf) else ()
    return isinstance(trigger, kind) or any(calls_upon(part, kind) for part in parts)


Trigger = (
    Never | Always | Schedule | NewLabels | Drift | PerformanceDrop | EstimatedDrop | WorthIt | AnyOf | AllOf | KOf
)
