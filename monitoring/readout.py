"""Reading an A/B test: how versions that shared the traffic turned out, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.losses import Floats
from monitoring.facts import Interval
from monitoring.weighted import Weighted

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
METRICS = ("log_loss", "auc")
_DRAWS = 400
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Arm:
    """What one version scored.

    Args:
        role: ``champion``, ``canary`` or ``shadow``.
        version: its number.
        rows: ``prediction_id, at, score, degraded``, ``label`` (0, 1 or NaN) and ``unit``, the entity that decides who
            is answered by which version.
    """

    role: str
    version: str
    rows: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class VersionReadout:
    """How one version did in the period.

    Args:
        role: see Arm.
        version: its number.
        predictions: how many it made.
        labelled: of those, how many have a label that is due.
        degraded_ratio: share of them that lacked features, in [0, 1]; None without any.
        mean_score: None without any.
        log_loss: of the labelled ones, in nats; None without any.
        auc: of the labelled ones; None unless both labels occur.
    """

    role: str
    version: str
    predictions: int
    labelled: int
    degraded_ratio: float | None
    mean_score: float | None
    log_loss: Interval | None
    auc: Interval | None


@dataclass(frozen=True)
class Readout:
    """An A/B test so far.

    Args:
        since: when the period began in which the versions were asked side by side; None if there was none.
        until: when it ended.
        versions: the champion first.
        differences: by role, each metric of that version minus the champion's. Below 0 is better for ``log_loss``,
            above 0 for ``auc``. A shadow is compared on the very requests that the champion answered.
    """

    since: datetime | None
    until: datetime | None
    versions: Sequence[VersionReadout]
    differences: Mapping[str, Mapping[str, Interval | None]]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON, with moments in ISO 8601."""
        whole = asdict(self)
        return whole | {name: moment and moment.isoformat() for name, moment in (
            ("since", self.since), ("until", self.until)
        )}  # fmt: skip


def read_out(arms: Sequence[Arm], *, seed: int = 0) -> Readout:
    """Compare versions over the period in which they were asked side by side.

    Intervals are percentiles of a bootstrap over units, not rows: all that one entity asked is drawn together, for it
    is the entity that was assigned to a version.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), 13.3; Kohavi et al., Trustworthy Online
    Controlled Experiments (2020), 14.

    Args:
        arms: the champion and whoever is compared with it.
        seed: of the draws.
    """
    since, until = _period(arms)
    cut = {arm.role: _Drawn(_within(arm, since, until), seed + i) for i, arm in enumerate(arms)}
    champion = cut.get(CHAMPION)
    differences = {}
    for role, drawn in cut.items():
        if role == SHADOW and champion is not None:
            differences[role] = _paired(champion.arm, drawn.arm, seed)
        elif role != CHAMPION and champion is not None:
            differences[role] = drawn.minus(champion)
    return Readout(since, until, [drawn.readout() for drawn in cut.values()], differences)


def _period(arms: Sequence[Arm]) -> tuple[datetime | None, datetime | None]:
    """When the champion and the canary both answered; without a canary, when the shadow was asked beside it."""
    by_role = {arm.role: arm.rows for arm in arms if len(arm.rows)}
    other = CANARY if CANARY in by_role else SHADOW
    if CHAMPION not in by_role or other not in by_role:
        return None, None
    both = (by_role[CHAMPION]["at"], by_role[other]["at"])
    since, until = max(at.min() for at in both), min(at.max() for at in both)
    return (since.to_pydatetime(), until.to_pydatetime()) if since <= until else (None, None)


def _within(arm: Arm, since: datetime | None, until: datetime | None) -> Arm:
    if since is None or until is None:
        return Arm(arm.role, arm.version, arm.rows.iloc[:0])
    return Arm(arm.role, arm.version, arm.rows.loc[(arm.rows["at"] >= since) & (arm.rows["at"] <= until)])


class _Drawn:
    """An arm, and its metrics on draws of its units.

    Args:
        arm: with what lies within the period.
        seed: of the draws.
    """

    def __init__(self, arm: Arm, seed: int) -> None:
        self.arm = arm
        self._labelled = arm.rows.loc[arm.rows["label"].notna()]
        scored = Weighted(_numbers(self._labelled, "label"), _numbers(self._labelled, "score"))
        drawn = [(scored.log_loss(weights), scored.auc(weights)) for weights in _draws(self._labelled["unit"], seed)]
        self._values = np.array(drawn)

    def readout(self) -> VersionReadout:
        """Everything there is to say of the arm alone."""
        rows = self.arm.rows
        return VersionReadout(
            role=self.arm.role, version=self.arm.version, predictions=len(rows), labelled=len(self._labelled),
            degraded_ratio=float(rows["degraded"].mean()) if len(rows) else None,
            mean_score=float(rows["score"].mean()) if len(rows) else None,
            **_intervals(self._values),
        )  # fmt: skip

    def minus(self, other: _Drawn) -> dict[str, Interval | None]:
        """The metrics' differences of two arms that were drawn on their own."""
        return _intervals(self._values - other._values)


def _paired(champion: Arm, shadow: Arm, seed: int) -> dict[str, Interval | None]:
    """The metrics' differences on what both scored, drawn together."""
    both = champion.rows.merge(shadow.rows[["prediction_id", "score"]], on="prediction_id", suffixes=("", "_shadow"))
    both = both.loc[both["label"].notna()]
    ours, theirs = (Weighted(_numbers(both, "label"), _numbers(both, name)) for name in ("score", "score_shadow"))
    drawn = [
        (theirs.log_loss(weights) - ours.log_loss(weights), theirs.auc(weights) - ours.auc(weights))
        for weights in _draws(both["unit"], seed)
    ]
    return _intervals(np.array(drawn))


def _numbers(rows: pd.DataFrame, column: str) -> Floats:
    return rows[column].to_numpy(dtype=np.float64)


def _draws(units: pd.Series, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each row counts: first once, as it is; then in each draw of as many units as there are."""
    codes, distinct = pd.factorize(units)
    k, rng = len(distinct), np.random.default_rng(seed)
    yield np.ones(len(units), dtype=np.int64)
    for _ in range(_DRAWS):
        yield np.bincount(rng.integers(0, k, k), minlength=k)[codes] if k else np.zeros(0, dtype=np.int64)


def _intervals(values: Floats) -> dict[str, Interval | None]:
    """By metric, from its value on all rows and then on each draw; None where it does not exist."""
    return {name: _interval(values[:, i]) for i, name in enumerate(METRICS)}


def _interval(values: Floats) -> Interval | None:
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not drawn.size:
        return None
    low, high = np.percentile(drawn, _LEVEL)
    return Interval(value=float(values[0]), low=float(low), high=float(high))
