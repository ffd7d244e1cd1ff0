"""Promotions of `taxi_tip` that were mistakes, or none, looked back at every day for four weeks.

Versions are trained on January and February 2018 and put in each other's place every two weeks until the end of the
year; labels come as they did. A worse version has a fifth of its training labels flipped; equal ones are trained on
halves drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from bench.judgement_estimate import FIRST_TRAINING, labelled_history
from bench.measure import Result
from bench.peers import ROOT
from core.decision import Decision
from core.discovery import load_use_case
from core.policy import AftermathPolicy
from core.use_case import UseCase
from monitoring.aftermath import CONFIRM, ROLLBACK, Promotion, compare_versions, judge_aftermath

_STARTS, _EVERY = 20, timedelta(days=14)
_DAY = timedelta(days=1)
_FLIPPED_SHARE = 0.2
_POLICY = AftermathPolicy()


def run() -> list[Result]:
    """Look back at sixty promotions."""
    use_case = load_use_case(ROOT / "models" / "taxi_tip.py").use_case
    rows, columns = labelled_history(use_case)
    scores = _versions(use_case, rows, columns)
    verdicts = {
        name: [_verdict(rows, scores[new], scores[old], FIRST_TRAINING + i * _EVERY) for i in range(_STARTS)]
        for name, new, old in (("worse", "flipped", "full"), ("better", "full", "flipped"), ("equal", "half", "other"))
    }
    worse, better = verdicts["worse"], verdicts["better"]
    days = [float(day) for decision, day in worse if decision.action == ROLLBACK]
    n, name = _STARTS, "taxi_tip, after a promotion"
    return [
        Result(f"{name}: worse versions taken back", _percent(worse, ROLLBACK), "%", "higher", 100.0, n=n),
        Result(f"{name}: days until a worse one is, median", float(np.median(days or [np.inf])), "days", "lower", n=n),
        Result(f"{name}: equal versions taken back", _percent(verdicts["equal"], ROLLBACK), "%", "lower", 0.0, n=n),
        Result(f"{name}: better versions confirmed", _percent(better, CONFIRM), "%", "higher", 100.0, n=n),
    ]


def _versions(use_case: UseCase, rows: pd.DataFrame, columns: list[str]) -> dict[str, np.ndarray]:
    """What each version answers to every row, shape (n,)."""
    rng = np.random.default_rng(0)
    matrix, label = rows[columns].to_numpy(dtype=np.float32), rows["label"].to_numpy(dtype=np.int64)
    training = np.flatnonzero(rows["at"] < FIRST_TRAINING)
    flipped = np.where(rng.random(len(label)) < _FLIPPED_SHARE, 1 - label, label)
    half, other = np.array_split(rng.permutation(training), 2)
    made = {"full": (training, label), "flipped": (training, flipped), "half": (half, label), "other": (other, label)}
    found = {}
    for name, (places, labels) in made.items():
        estimator = use_case.estimator(use_case.features.columns)
        estimator.fit(matrix[places], labels[places])
        found[name] = estimator.predict_proba(matrix)[:, 1]
    return found


def _verdict(rows: pd.DataFrame, new: np.ndarray, old: np.ndarray, start: datetime) -> tuple[Decision, int]:
    """The first decision that ends the wait, and the day it was made on."""
    for day, decision in enumerate(_looks(rows, new, old, start), start=1):
        if decision.action in (ROLLBACK, CONFIRM):
            return decision, day
    raise AssertionError("the last look confirms what was not shown worse")


def _looks(rows: pd.DataFrame, new: np.ndarray, old: np.ndarray, start: datetime) -> Iterator[Decision]:
    answered, promotion = rows[["at", "label"]].assign(score=new, old=old), Promotion("new", "old", start)
    for day in range(1, _POLICY.period // _DAY + 1):
        as_of = start + day * _DAY
        due = answered.loc[(answered["at"] >= start) & (answered["at"] < as_of)]
        facts = compare_versions(promotion, due, due["old"].to_numpy(), as_of=as_of, policy=_POLICY)
        yield judge_aftermath(facts, _POLICY)


def _percent(verdicts: list[tuple[Decision, int]], action: str) -> float:
    return 100 * float(np.mean([decision.action == action for decision, _ in verdicts]))
