"""A use case with a past in which the same amounts begin to sell better half way: for tests of replays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from core.discovery import UseCaseFile
from core.policy import Policy
from core.use_case import Classifier, History, UseCase
from features.offline.log import OfflineLog
from tests.sample_use_case import sample_use_case

DAY = timedelta(days=1)
START = datetime(2020, 1, 1, tzinfo=UTC)
A_DAY = 60
POLICY = Policy(
    training_window=20 * DAY, holdout_rows=150, min_rows=300, monitor_window=5 * DAY, monitor_every=5 * DAY,
    materialize_every=10 * DAY, min_monitor_rows=100, performance_drop=0.2, retrain_every=30 * DAY, cooldown=3 * DAY,
)  # fmt: skip


def logistic(columns: tuple[str, ...]) -> Classifier:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model: Classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    return model


def history(days: int = 60, turn: int | None = 30, seed: int = 0) -> History:
    """Questions evenly over the days; each label comes half an hour later, and so does its event."""
    rng, n = np.random.default_rng(seed), days * A_DAY
    at = pd.Series(pd.Timestamp(START) + pd.to_timedelta(np.sort(rng.random(n)) * days * 86_400, unit="s"))
    at = at.dt.floor("us").astype("datetime64[us, UTC]")
    amount = np.round(rng.normal(size=n), 3)
    turned = np.zeros(n, bool) if turn is None else (at >= pd.Timestamp(START + turn * DAY)).to_numpy()
    chance = 1 / (1 + np.exp(-2.5 * (amount + turned)))
    requests = pd.DataFrame(
        {"key": [f"q{i:05d}" for i in range(n)], "at": at, "shop": rng.choice(["a", "b"], n), "amount": amount}
    )
    known = at + timedelta(minutes=30)
    labels = pd.DataFrame({"key": requests["key"], "label": (rng.random(n) < chance).astype("int64"), "at": known})
    events = requests[["shop", "amount"]].assign(id=requests["key"], at=known)
    return History(requests, labels, {"sales": events})


def replayed(past: History, policy: Policy = POLICY) -> UseCaseFile:
    """The use case, as if it had been discovered."""
    use_case = replace(sample_use_case("replayed"), estimator=logistic, policy=policy, history=lambda folder: past)
    return UseCaseFile(use_case, Path("models/replayed.py"), "0" * 64)


def log_questions(log: OfflineLog, use_case: UseCase, past: History) -> None:
    """Write what was asked and how it turned out into a log."""
    names = [f.name for f in use_case.request_fields]
    asked, known = past.requests, past.labels
    predictions = asked[["at", *names]].assign(
        prediction_id=asked["key"], known_at=asked["at"], position=np.arange(1, len(asked) + 1, dtype=np.int64),
        version="", score=np.float32("nan"), degraded=False,
    )  # fmt: skip
    labels = known[["at"]].assign(
        prediction_id=known["key"], label=known["label"].astype("int8"), known_at=known["at"],
        position=np.arange(1, len(known) + 1, dtype=np.int64),
    )  # fmt: skip
    log.write("predictions", len(asked), {f"predictions/{use_case.name}": predictions})
    log.write("labels", len(known), {f"labels/{use_case.name}": labels})
