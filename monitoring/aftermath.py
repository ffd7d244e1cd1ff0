"""After a promotion: the new version and the one before on the same live rows, judged as labels come."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from core.decision import Decision
from core.losses import WORST_LOG_LOSS, Floats, row_log_loss
from core.policy import AftermathPolicy
from monitoring.facts import Interval
from monitoring.recorded import Recorded

ROLLBACK, CONFIRM, WAIT = "rollback", "confirm", "wait"
VERDICTS = (ROLLBACK, CONFIRM)
# Rows near each other in time depend on each other: so many of them count as one observation.
_BLOCK_ROWS = 25
_FEWEST_BLOCKS = 8
# The bound is tightest after so many blocks, and at most a little wider before and after.
_TIGHTEST_BLOCKS = 100
_MOST_ROWS = 50_000


@dataclass(frozen=True, kw_only=True)
class AftermathFacts(Recorded):
    """What is known of a promotion so far.

    Args:
        as_of: the moment of the look.
        version: the version that was promoted.
        previous: the one it took the place of.
        promoted_at: when.
        rows: predictions it answered since whose label is due.
        labelled: of those, how many have a label, and were scored by both.
        log_loss: of the version on the labelled ones, in nats; None without any.
        previous_log_loss: of the other on the same.
        difference: the version's minus the other's, in nats: above 0 is worse. Its bounds hold at all looks together,
            with the confidence of the policy; None with too few rows for bounds.
    """

    as_of: datetime
    version: str
    previous: str
    promoted_at: datetime
    rows: int
    labelled: int
    log_loss: float | None = None
    previous_log_loss: float | None = None
    difference: Interval | None = None


@dataclass(frozen=True)
class Promotion:
    """What is looked back at.

    Args:
        version: the version that was promoted.
        previous: the one it took the place of.
        promoted_at: when.
    """

    version: str
    previous: str
    promoted_at: datetime


def sample_rows(due: pd.DataFrame) -> pd.DataFrame:
    """At most about 50,000 of some predictions: by their ids, so that a smaller sample is part of every larger one."""
    halvings = math.ceil(math.log2(max(len(due) / _MOST_ROWS, 1)))
    if not halvings:
        return due
    places = np.array([zlib.crc32(str(each).encode()) for each in due["prediction_id"]], dtype=np.int64)
    kept: pd.DataFrame = due.loc[places % 2**halvings == 0]
    return kept


def compare_versions(
    promotion: Promotion, due: pd.DataFrame, previous_scores: Floats, *, as_of: datetime, policy: AftermathPolicy
) -> AftermathFacts:
    """Gather what is known of a promotion.

    Args:
        promotion: which.
        due: what the version answered since, as `join_labels` gives it: ``at``, ``score``, ``label``.
        previous_scores: of the other version, for the labelled rows of `due`, in their order, shape (labelled,).
        as_of: the moment of the look.
        policy: whose confidence the bounds have.
    """
    rows = due.loc[due["label"].notna()] if len(due) else due
    known = AftermathFacts(
        as_of=as_of, version=promotion.version, previous=promotion.previous, promoted_at=promotion.promoted_at,
        rows=len(due), labelled=len(rows),
    )  # fmt: skip
    if rows.empty:
        return known
    label, score = (rows[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
    losses, previous_losses = row_log_loss(label, score), row_log_loss(label, np.asarray(previous_scores, np.float64))
    in_time = np.argsort(rows["at"].to_numpy(), kind="stable")
    return replace(
        known,
        log_loss=float(losses.mean()),
        previous_log_loss=float(previous_losses.mean()),
        difference=always_valid_mean((losses - previous_losses)[in_time], 1 - policy.confidence),
    )


def judge_aftermath(facts: AftermathFacts, policy: AftermathPolicy) -> Decision:
    """Whether a promotion is taken back, confirmed, or looked at again.

    Returns:
        ``rollback`` once the new version is shown worse; ``confirm`` once it is shown no worse than the margin allows,
        or the period is over; ``wait`` otherwise.

    Example:
        >>> from datetime import UTC
        >>> day = datetime(2019, 2, 2, tzinfo=UTC)
        >>> facts = AftermathFacts(as_of=day, version="8", previous="7", promoted_at=day, rows=9, labelled=0)
        >>> judge_aftermath(facts, AftermathPolicy()).action
        'wait'
    """
    numbers, evidence = _numbers(facts), {"facts": facts.as_json(), "policy": _policy_json(policy)}
    seen, before = facts.difference, facts.previous_log_loss
    if seen is not None and before is not None and facts.labelled >= policy.min_rows:
        if seen.low > 0:
            return Decision(ROLLBACK, f"{numbers}: shown worse, {facts.previous} is to answer again", evidence)
        if seen.high <= 0:
            return Decision(CONFIRM, f"{numbers}: shown better", evidence)
        if seen.high <= policy.margin * before:
            return Decision(CONFIRM, f"{numbers}: shown no worse than {policy.margin:.1%}", evidence)
    age = facts.as_of - facts.promoted_at
    if age >= policy.period:
        return Decision(CONFIRM, f"{numbers}: not shown worse in {policy.period.days} days", evidence)
    few = f", judged from {policy.min_rows:,} on" if facts.labelled < policy.min_rows else ""
    return Decision(WAIT, f"{numbers}{few}: neither shown worse nor no worse, on day {age.days + 1}", evidence)


def judge_again(evidence: Mapping[str, Any]) -> Decision:
    """The decision that recorded evidence leads to.

    Raises:
        pydantic.ValidationError: if it was not recorded by `judge_aftermath`.
    """
    policy = dict(evidence["policy"])
    period = timedelta(seconds=policy.pop("period_s"))
    return judge_aftermath(AftermathFacts.from_json(evidence["facts"]), AftermathPolicy(period=period, **policy))


def always_valid_mean(values: Floats, alpha: float) -> Interval | None:
    """A mean, and bounds that hold at every look at once: looking often does not make them fail more.

    An asymptotic confidence sequence over blocks of consecutive values: after t blocks with standard deviation s the
    mean lies within s·sqrt(2(tρ²+1)/(t²ρ²)·log(sqrt(tρ²+1)/α)).
    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, Time-uniform central limit theory and asymptotic confidence
    sequences, Annals of Statistics 52 (2024), Theorem 2.2; ρ as it recommends, for `_TIGHTEST_BLOCKS`.

    Args:
        values: in order of time, shape (n,); what does not fill a block counts from the next look on.
        alpha: chance that the bounds ever miss the mean, in (0, 1).

    Returns:
        None with fewer than 8 blocks of 25 values.
    """
    t = len(values) // _BLOCK_ROWS
    if t < _FEWEST_BLOCKS:
        return None
    blocks = values[: t * _BLOCK_ROWS].reshape(t, _BLOCK_ROWS).mean(axis=1)
    value, deviation = float(blocks.mean()), float(blocks.std(ddof=1))
    tight = -2 * math.log(alpha)
    rho2 = (tight + math.log(tight + 1)) / _TIGHTEST_BLOCKS
    grown = t * rho2 + 1
    radius = deviation * math.sqrt(2 * grown / (t**2 * rho2) * math.log(math.sqrt(grown) / alpha))
    return Interval(value=value, low=max(value - radius, -WORST_LOG_LOSS), high=min(value + radius, WORST_LOG_LOSS))


def _numbers(facts: AftermathFacts) -> str:
    if facts.log_loss is None or facts.previous_log_loss is None:
        return f"no label yet of {facts.rows:,} predictions of version {facts.version}"
    seen = facts.difference
    bounds = "" if seen is None else f", a difference of {seen.value:+.4f} ({seen.low:+.4f} to {seen.high:+.4f})"
    return (
        f"version {facts.version} has a log-loss of {facts.log_loss:.4f} on {facts.labelled:,} labelled live rows, "
        f"{facts.previous} would have had {facts.previous_log_loss:.4f}{bounds}"
    )


def _policy_json(policy: AftermathPolicy) -> dict[str, float]:
    return {
        "period_s": policy.period.total_seconds(), "confidence": policy.confidence,
        "margin": policy.margin, "min_rows": policy.min_rows,
    }  # fmt: skip
