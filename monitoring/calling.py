"""What windows in a row call together, and which columns moved in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from core.policy import DriftPolicy
from monitoring.calibration import kind_of, least_score
from monitoring.facts import ColumnDrift, DriftFacts, Kind
from monitoring.scores import evidence, over_windows

KINDS: tuple[Kind, ...] = get_args(Kind)


def call(windows: Sequence[DriftFacts], policy: DriftPolicy, importance: Mapping[str, float]) -> DriftFacts:
    """The newest of some windows, with what it and those before call.

    Args:
        windows: what was found in each, the newest last, n > 0; they should not overlap.
        policy: what counts as drift.
        importance: of the features; empty if unknown.
    """
    seen = [{found.kind for found in window.over} for window in windows]
    ends = range(1, len(windows) + 1)
    together = [_raised_together(windows[max(0, end - policy.of) : end], policy) for end in ends]
    newest = seen[-policy.of :]
    called = tuple(
        kind
        for kind in KINDS
        if is_called([kind in kinds for kinds in seen], policy, [kind in kinds for kinds in together])
    )
    return replace(
        windows[-1],
        windows_over={kind: sum(kind in kinds for kinds in newest) for kind in KINDS},
        called=called,
        moved=name_moved(windows[-policy.of :], called, policy, importance),
    )


def is_called(over: Sequence[bool], policy: DriftPolicy, together: Sequence[bool] = ()) -> bool:
    """Whether drift is on after these windows, the newest last.

    It comes on when `policy.over` of the newest `policy.of` windows are over, or when these together are; it goes off
    when as many of them are under, and together they are not over.

    Args:
        over: of each window.
        policy: what counts as drift.
        together: whether each window and those before it, `policy.of` at most, are over together; empty: none.

    Example:
        >>> is_called([False, True, True], DriftPolicy()), is_called([True, True, False, True, False], DriftPolicy())
        (True, False)
    """
    called = False
    for end, joint in enumerate(together or [False] * len(over), start=1):
        newest = over[max(0, end - policy.of) : end]
        are_over = sum(newest) >= policy.over
        are_under = len(newest) - sum(newest) >= policy.over
        called = joint or (not are_under if called else are_over)
    return called


def name_moved(
    windows: Sequence[DriftFacts], called: Sequence[Kind], policy: DriftPolicy, importance: Mapping[str, float]
) -> tuple[str, ...]:
    """Which columns moved, by several windows together: what one leaves to chance, the next ones tell.

    Args:
        windows: what was found in each of the newest, the newest last.
        called: kinds of drift that are; columns of others are not named.
        policy: what counts as drift.
        importance: of the features; empty if unknown.

    Returns:
        Those whose mean score stands out, with the same share of wrong ones as in a single window; the most important
        first, see `rank`.
    """
    told = [window for window in windows if window.scores]
    names = [name for name in (told[-1].scores if told else ()) if kind_of(name) in called]
    if not names:
        return ()
    mean = {
        name: float(over_windows(np.array([w.scores[name] for w in told if name in w.scores]), told[-1].alike))
        for name in names
    }
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
        if found >= level and _is_worth_it(name, told, policy)
    ]
    return tuple(column.column for column in rank(moved))


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


def _raised_together(windows: Sequence[DriftFacts], policy: DriftPolicy) -> set[Kind]:
    """The kinds of which the windows together say more than one window without drift does.

    Of each column no window counts for more than the `policy.over`-th strongest: a single one calls nothing, however
    far out it is.
    """
    told = [window for window in windows if window.scores and window.limit]
    if len(told) < max(policy.over, 2):
        return set()
    newest = told[-1]
    columns: dict[Kind, list[list[float]]] = {}
    for name in newest.scores:
        if all(name in window.scores for window in told):
            own = [window.scores[name] if _is_worth_it(name, told, policy) else 0.0 for window in told]
            columns.setdefault(kind_of(name), []).append(own)
    return {
        kind
        for kind, own in columns.items()
        if evidence(over_windows(np.array(own), newest.alike, most=policy.over)) > newest.limit
    }


def _is_worth_it(name: str, windows: Sequence[DriftFacts], policy: DriftPolicy) -> bool:
    """Whether the column's mean effect is."""
    effects = [window.effects[name] for window in windows if name in window.effects]
    return bool(np.mean(effects or [np.inf]) > policy.min_effect)
