"""What has moved since a version was made: inputs, scores, labels, or what the inputs say of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from core.policy import DriftPolicy
from monitoring.calibration import Distance, distances, kind_of, least_score
from monitoring.facts import ColumnDrift, DriftFacts, Kind
from monitoring.profile import EVERYWHERE, ReferenceProfile
from monitoring.scores import scale_of_means
from monitoring.window import WindowProfile

KINDS: tuple[Kind, ...] = get_args(Kind)
MIN_ROWS = 100


def find_drift(
    reference: ReferenceProfile, windows: Sequence[WindowProfile], policy: DriftPolicy, *, min_rows: int = MIN_ROWS
) -> DriftFacts:
    """Compare the newest window with the reference, and say what is called by the newest windows together.

    Args:
        reference: of the version that answered.
        windows: profiles of its predictions, the newest last; they should not overlap.
        policy: what counts as drift.
        min_rows: fewest rows for a column of a segment to be compared.

    Returns:
        What is over its threshold in the newest window, the most important first, and which kinds are called.
    """
    if not windows:
        return DriftFacts(rows=0, columns=0)
    measured = [_measure(reference, window, policy, min_rows) for window in windows]
    over = [[found for found in window if _is_over(found, policy)] for window in measured]
    seen = [{kind_of(found.column) for found in window} for window in over]
    newest = seen[-policy.of :]
    called = tuple(kind for kind in KINDS if is_called([kind in kinds for kinds in seen], policy))
    scores = [_scores(window, policy) for window in measured]
    return DriftFacts(
        rows=windows[-1].rows,
        columns=len(measured[-1]),
        over=rank([_column_drift(reference, found, policy) for found in over[-1]]),
        windows_over={kind: sum(kind in kinds for kinds in newest) for kind in KINDS},
        called=called,
        scores=scores[-1],
        moved=name_moved(scores[-policy.of :], called, reference.importance),
    )


def is_called(over: Sequence[bool], policy: DriftPolicy) -> bool:
    """Whether drift is on after these windows, the newest last.

    It comes on when `policy.over` of the newest `policy.of` windows are over, and goes off when as many of them are
    under.

    Example:
        >>> is_called([False, True, True], DriftPolicy()), is_called([True, True, False, True, False], DriftPolicy())
        (True, False)
    """
    called = False
    for end in range(1, len(over) + 1):
        newest = over[max(0, end - policy.of) : end]
        many = sum(newest) if not called else len(newest) - sum(newest)
        called = (many >= policy.over) != called
    return called


def name_moved(
    scores: Sequence[Mapping[str, float]], called: Sequence[Kind], importance: Mapping[str, float]
) -> tuple[str, ...]:
    """Which columns moved, by several windows together: what one leaves to chance, the next ones tell.

    Args:
        scores: of each column in the newest windows.
        called: kinds of drift that are; columns of others are not named.
        importance: of the features; empty if unknown.

    Returns:
        Those whose mean score stands out, with the same share of wrong ones as in a single window; the most important
        first, see `rank`.
    """
    told = [each for each in scores if each]
    names = [name for name in (told[-1] if told else ()) if kind_of(name) in called]
    if not names:
        return ()
    own = {name: [each[name] for each in told if name in each] for name in names}
    mean = {name: _mean(found) for name, found in own.items()}
    level = least_score(np.array(list(mean.values())))
    moved = [
        ColumnDrift(
            column=name,
            kind=kind_of(name),
            effect=0.0,
            threshold=0.0,
            importance=importance.get(name, 0.0),
            score=found,
        )
        for name, found in mean.items()
        if found >= level and np.mean(np.array(own[name]) > 0) > 0.5  # small in most windows is small
    ]
    return tuple(column.column for column in rank(moved))


def _mean(scores: Sequence[float]) -> float:
    return float(scale_of_means(len(scores)).score(np.abs(scores).mean(keepdims=True))[0])


def rank(over: Sequence[ColumnDrift]) -> tuple[ColumnDrift, ...]:
    """Those that matter most first: by score and importance; where no importance is known, by score."""
    known = any(found.importance > 0 for found in over)
    features = sum(found.kind == "data" for found in over)
    usual = max((found.importance for found in over), default=0.0) or 1.0

    def weight(found: ColumnDrift) -> float:
        if not known or not features or found.kind != "data":
            return usual
        return found.importance

    return tuple(sorted(over, key=lambda f: (-f.score * weight(f), -f.score, -f.effect, f.segment, f.column)))


def _scores(window: Sequence[Distance], policy: DriftPolicy) -> dict[str, float]:
    return {
        found.column: round(found.score if found.value > policy.min_effect else -abs(found.score), 2)
        for found in window
        if found.segment == EVERYWHERE
    }


def _measure(
    reference: ReferenceProfile, window: WindowProfile, policy: DriftPolicy, min_rows: int
) -> tuple[Distance, ...]:
    if window.rows < min_rows:
        return ()
    return distances(reference, window, false_alarms=policy.false_alarms, min_rows=min_rows)


def _is_over(found: Distance, policy: DriftPolicy) -> bool:
    return found.over and found.value > policy.min_effect


def _column_drift(reference: ReferenceProfile, found: Distance, policy: DriftPolicy) -> ColumnDrift:
    return ColumnDrift(
        column=found.column,
        kind=kind_of(found.column),
        effect=found.value,
        threshold=max(found.threshold, policy.min_effect),
        importance=reference.importance.get(found.column, 0.0),
        segment=found.segment,
        score=round(found.score, 2),
    )
