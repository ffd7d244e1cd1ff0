"""Auditing: are served features what the log says they were?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from core.use_case import UseCase
from features.offline import OfflineLog
from features.point_in_time import point_in_time_matrix


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
        rows: predictions compared.
        mismatches: per feature, how many of them differ in any bit.
        largest_difference: per feature, the largest absolute difference.
    """

    rows: int
    mismatches: Mapping[str, int]
    largest_difference: Mapping[str, float]

    @property
    def is_clean(self) -> bool:
        """Whether every value agreed exactly."""
        return not any(self.mismatches.values())


def audit_features(
    log: OfflineLog,
    use_case: UseCase,
    *,
    rows: int = 1000,
    seed: int = 0,
    since: datetime | None = None,
    until: datetime | None = None,
) -> AuditReport:
    """Recompute a sample of served feature vectors from the offline log and compare them bit for bit.

    Args:
        log: the offline log.
        use_case: whose predictions.
        rows: how many to sample.
        seed: of the sample.
        since: earliest ``at``.
        until: ``at`` before which.
    """
    served = log.predictions(use_case.name, since=since, until=until)
    if not served.empty:
        served = served[served["version"] != ""]
    if served.empty:
        return AuditReport(0, {}, {})
    served = served.sample(min(rows, len(served)), random_state=seed)
    columns = use_case.features.columns
    ours = point_in_time_matrix(log, use_case, served)
    theirs = served[[f"f__{column}" for column in columns]].to_numpy(dtype=np.float32)
    differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
    gap = np.where(differs, np.abs(ours.astype(np.float64) - theirs), 0.0)
    return AuditReport(
        rows=len(served),
        mismatches={column: int(n) for column, n in zip(columns, differs.sum(axis=0), strict=True)},
        largest_difference={column: float(g) for column, g in zip(columns, gap.max(axis=0), strict=True)},
    )
