"""Decisions: pure, recorded, explainable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decision:
    """What should be done, why, and on what evidence.

    Made by functions without I/O, so any decision can be recomputed from its evidence.

    Args:
        action: an imperative in one word, e.g. ``retrain``, ``wait``, ``promote``, ``keep``, ``reject``.
        reason: one sentence a person on call understands, with the numbers.
        evidence: JSON-able facts the decision was made from.

    Example:
        >>> Decision("wait", "no trigger fired", {"log_loss": 0.49}).action
        'wait'
    """

    action: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
