"""Log-loss estimated before the labels are there, against what it turned out, by week, on three half-years of taxis.

A version is trained on January and February 2018 and answers until July 2019. At the end of each week that week's
labels are taken to be out: those of the four weeks before are there. In February 2019 the congestion surcharge changed
what people tip; no estimate can know before labels say so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from bench.measure import Result
from bench.ours_logs import materialize
from bench.peers import ROOT
from bench.redis_server import connect, redis_server
from core.discovery import load_use_case
from core.losses import log_loss
from core.use_case import UseCase
from features.definitions import key_groups
from features.offline.log import OfflineLog
from features.offline.point_in_time import point_in_time_matrix
from features.segments import LOGGED
from monitoring.estimate import estimate
from monitoring.facts import EstimateFacts

_SOURCE = "taxi_payments"
FIRST_TRAINING, _SURCHARGE = datetime(2018, 3, 1, tzinfo=UTC), datetime(2019, 2, 1, tzinfo=UTC)
_END = datetime(2019, 7, 1, tzinfo=UTC)
_REFRESHED_FROM = datetime(2018, 1, 29, tzinfo=UTC)
_WEEK = timedelta(days=7)
_LABELLED_WEEKS = 4
_TARGET_NATS = 0.02
_NEVER = 99


@dataclass(frozen=True)
class Week:
    """One estimate and what came of it.

    Args:
        from_at: its first moment.
        estimated: made when the week was over and its labels were not there.
        realised: the mean log-loss, in nats.
        before: that of the labelled rows it was estimated from, in nats.
    """

    from_at: datetime
    estimated: EstimateFacts
    realised: float
    before: float

    @property
    def error(self) -> float:
        """Absolute, in nats."""
        return abs(self.estimated.log_loss.value - self.realised)

    @property
    def is_held(self) -> bool:
        """Whether the interval held it."""
        return self.estimated.log_loss.low <= self.realised <= self.estimated.log_loss.high


def run() -> list[Result]:
    """Estimate each week from March 2018 to June 2019."""
    weeks = list(_weeks(*_answered()))
    before = [week for week in weeks if week.from_at + _WEEK <= _SURCHARGE]
    # the first week with the surcharge in it was estimated before any of its labels was there
    after = [week for week in weeks if week.from_at + _WEEK > _SURCHARGE][1:]
    blind = [week.estimated.blind is not None for week in after]
    n, name = len(before), "taxi_tip, weeks before Feb 2019"
    error = float(np.mean([week.error for week in before]))
    naive = float(np.mean([abs(week.before - week.realised) for week in before]))
    as_before = f"{name}: loss of the labels so far - realised, mean absolute error"
    return [
        Result(
            f"{name}: estimated - realised, mean absolute error", error, "nats", "lower", _TARGET_NATS,
            against=as_before, ratio=error / naive, n=n,
        ),
        Result(as_before, naive, "nats", "lower", n=n),
        Result(f"{name}: largest error", max(week.error for week in before), "nats", "lower", n=n),
        Result(f"{name}: realised within the 95 % interval", _percent(w.is_held for w in before), "%", "higher", n=n),
        Result(f"{name}: called blind", _percent(w.estimated.blind for w in before), "%", "lower", n=n),
        Result(
            "taxi_tip, from Feb 2019: weeks of labels until the estimate is called blind",
            float(blind.index(True) + 1 if any(blind) else _NEVER), "weeks", "lower", 1.0, n=len(after),
        ),
        Result("taxi_tip, from Feb 2019: weeks called blind since", _percent(blind), "%", "higher", n=len(after)),
    ]  # fmt: skip


def _answered() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The version's holdout, and what it answered since: ``at``, ``score``, ``label``, features."""
    use_case = load_use_case(ROOT / "models" / "taxi_tip.py").use_case
    rows, columns = labelled_history(use_case)
    is_training = (rows["at"] < FIRST_TRAINING).to_numpy()
    holdout = use_case.policy.holdout_rows
    fitted = rows[is_training].iloc[:-holdout]
    estimator = use_case.estimator(use_case.features.columns)
    estimator.fit(fitted[columns].to_numpy(dtype=np.float32), fitted["label"].to_numpy(dtype=np.int64))
    rows["score"] = estimator.predict_proba(rows[columns].to_numpy(dtype=np.float32))[:, 1]
    return rows[is_training].tail(holdout), rows[~is_training]


def labelled_history(use_case: UseCase) -> tuple[pd.DataFrame, list[str]]:
    """Every question until the end with its label and features as known then, and the features' names."""
    history = use_case.history(ROOT / "data")
    asked = history.requests.loc[history.requests["at"] < _END].reset_index(drop=True)
    events = history.events[_SOURCE].sort_values("at", kind="stable").reset_index(drop=True)
    events = events.loc[events["at"] < _END]
    groups = ",".join("+".join(keys) for keys in key_groups([use_case], _SOURCE))
    logged = events.assign(known_at=events["at"], position=np.arange(1, len(events) + 1), by=groups)
    with tempfile.TemporaryDirectory() as folder, redis_server() as port, connect(port) as client:
        log = OfflineLog(Path(folder))
        log.write("log-0", len(logged), {f"events/{_SOURCE}": logged})
        moment = _REFRESHED_FROM
        while moment < _END:
            materialize(client, "estimate", use_case, ROOT / "data", Path(folder), moment)
            moment += use_case.policy.materialize_every
        matrix = point_in_time_matrix(log, use_case, asked)
    columns = [LOGGED + name for name in use_case.features.columns]
    labels = history.labels.set_index("key")["label"]
    known = pd.DataFrame({"at": asked["at"], "label": asked["key"].map(labels).astype("float64")})
    return pd.concat([known, pd.DataFrame(matrix, columns=columns)], axis=1), columns


def _weeks(reference: pd.DataFrame, answered: pd.DataFrame) -> Iterator[Week]:
    made: list[EstimateFacts] = []
    start = FIRST_TRAINING
    while start + _WEEK <= _END:
        week = answered.loc[(answered["at"] >= start) & (answered["at"] < start + _WEEK)]
        labelled = answered.loc[(answered["at"] < start) & (answered["at"] >= start - _LABELLED_WEEKS * _WEEK)]
        found = estimate(week.drop(columns="label"), reference, labelled, earlier=made)
        if found is not None:
            made.append(found)
            yield Week(start, found, _loss(week), _loss(labelled if len(labelled) else reference))
        start += _WEEK


def _loss(rows: pd.DataFrame) -> float:
    label, score = (rows[name].to_numpy(dtype=np.float64) for name in ("label", "score"))
    return log_loss(label, score)


def _percent(yes: Iterator[object] | list[bool]) -> float:
    return 100 * float(np.mean([bool(each) for each in yes]))
