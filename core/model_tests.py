"""What a use case expects of every version, beyond its loss: declared in its file, checked before one is registered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from core.errors import UseCaseError

Scalar = int | float | str | None
Metric = Literal["auc", "log_loss", "brier", "calibration_error", "gain_over_base_rate"]
METRICS: tuple[Metric, ...] = ("auc", "log_loss", "brier", "calibration_error", "gain_over_base_rate")
HIGHER_IS_BETTER: tuple[Metric, ...] = ("auc", "gain_over_base_rate")


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """Something that must not matter: with any of the values in its place, scores stay what they were.

    Source: Ribeiro et al. (2020), "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList", INV.

    Args:
        field: a field of the request, or a feature column.
        values: what it is set to, one after the other, in all rows.
        max_change: largest mean change of a score, in [0, 1].
        required: whether a version that fails is rejected; else it is only said.
    """

    field: str
    values: tuple[Scalar, ...]
    max_change: float = 0.0
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Something that is known to matter in one direction: moved, the mean score moves that way.

    Source: Ribeiro et al. (2020), CheckList, DIR.

    Args:
        field: a field of the request, or a feature column, that is a number.
        by: what is added to it, in all rows that have it; below 0 to take away.
        expect: where the mean score goes; ``not down`` and ``not up`` allow it to stay.
        tolerance: how far it may go the other way, in [0, 1].
        required: whether a version that fails is rejected; else it is only said.
    """

    field: str
    by: float
    expect: Literal["up", "down", "not up", "not down"]
    tolerance: float = 0.0
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The least a version must be able to do on the newest labelled rows.

    Args:
        metric: ``gain_over_base_rate`` is the share of the base rate's log-loss that is saved.
        value: the least for ``auc`` and ``gain_over_base_rate``, the most for the others.
        required: whether a version that fails is rejected; else it is only said.
    """

    metric: Metric
    value: float
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Slice:
    """No part of the rows may be served much worse than the whole.

    Args:
        by: a request field or feature column by whose values (or quarters of them) rows are told apart.
        max_loss_ratio: largest log-loss of a part over that of all rows. Each is first divided by the loss of its own
            base rate, so that a part that is harder to tell for everybody is not held against the version.
        min_rows: smaller parts are left out.
        required: whether a version that fails is rejected; else it is only said.
    """

    by: str
    max_loss_ratio: float
    min_rows: int = 100
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class TinyBatch:
    """A fresh estimator learns a few rows, seen again and again, by heart: else something between data and loss is cut.

    Args:
        rows: how many.
        repeats: how often each is seen in one fit.
        max_loss_ratio: largest log-loss on those rows, over that of their base rate.
        required: whether a version that fails is rejected; else it is only said.
    """

    rows: int = 64
    repeats: int = 64
    max_loss_ratio: float = 0.98
    required: bool = True


ModelTest = Invariance | Direction | Minimum | Slice | TinyBatch


def default_tests(declared: Sequence[ModelTest], segments: Sequence[str]) -> tuple[ModelTest, ...]:
    """What is asked of every version besides what its file declares; a kind that the file declares is the file's.

    That scores are probabilities, and the same after the graph was written and read, is asked in any case.

    Args:
        declared: by the file.
        segments: of its policy; slices by them are looked at, and reject nothing.
    """
    found: list[ModelTest] = []
    if not any(isinstance(each, Minimum) for each in declared):
        found.append(Minimum(metric="gain_over_base_rate", value=0.0, required=False))
    if not any(isinstance(each, TinyBatch) for each in declared):
        found.append(TinyBatch())
    sliced = {each.by for each in declared if isinstance(each, Slice)}
    found += [Slice(by=name, max_loss_ratio=1.5, required=False) for name in segments if name not in sliced]
    return tuple(found)


def check_declared(
    use_case: str, tests: Sequence[ModelTest], *, request: Sequence[str], features: Sequence[str]
) -> None:
    """Refuse tests that cannot be run.

    Raises:
        UseCaseError: naming the first at fault, and the remedy.
    """
    for problem, remedy in _faults(tests, {*request, *features}):
        raise UseCaseError(use_case, problem, remedy)


def _faults(tests: Sequence[ModelTest], known: set[str]) -> Iterator[tuple[str, str]]:
    for each in tests:
        kind = type(each).__name__
        if isinstance(each, Invariance | Direction) and each.field not in known:
            yield f"tests {kind} of {each.field!r}, which is no request field and no feature", "Name one of them."
        if isinstance(each, Slice) and each.by not in known:
            yield f"tests a Slice by {each.by!r}, which is no request field and no feature", "Name one of them."
        if isinstance(each, Invariance) and not each.values:
            yield f"tests an Invariance of {each.field} without values", "Give at least one in values=(…,)."
        if isinstance(each, Direction) and each.by == 0:
            yield f"tests a Direction of {each.field} by 0", "Give what is added to it, e.g. by=1.0."
        if isinstance(each, Minimum) and each.metric not in METRICS:
            yield f"tests a Minimum of {each.metric!r}", f"Use one of: {', '.join(METRICS)}."
        if isinstance(each, Slice | TinyBatch) and each.max_loss_ratio <= 0:
            yield f"tests a {kind} with max_loss_ratio {each.max_loss_ratio:g}", "Use a number above 0, e.g. 1.2."
        if isinstance(each, TinyBatch) and (each.rows < 2 or each.repeats < 1):
            yield f"tests a TinyBatch of {each.rows} rows, {each.repeats} times", "Use at least 2 rows, at least once."
