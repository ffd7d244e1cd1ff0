"""The gate on planted challengers: worse ones, better ones, and equals, on taxi trips and on synthetic rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.measure import Result
from bench.peers import ROOT
from core.discovery import load_use_case
from core.policy import Policy
from features.definitions import feature_set
from registry import metrics
from registry.gate import HoldoutScores, judge
from registry.paired import POWER, rows_to_detect

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]

POLICY = Policy()
WORSE, BETTER, EQUAL = 200, 200, 2000
HOLDOUT_ROWS = 2000
_CRITICAL = 1.645
_LEAKS = ("copy", "2 % flipped", "10 % flipped", "missing")


@dataclass(frozen=True)
class Answers:
    """A version's log-odds on the rows of a pool, and the column it had besides the others, if any."""

    odds: Floats
    leak: Matrix | None = None


@dataclass(frozen=True)
class Pool:
    """Labelled rows in order of time, an honest version's answers, and versions that are known to be worse.

    Args:
        name: of the data.
        X: features, (n, d), none of them seen by any of the versions' training.
        y: labels (n,).
        columns: names of the features.
        honest: answers of a version trained on the rows just before.
        leaking: versions that were trained with a column made of the label, which the pool has, too.
        wrong: versions trained on a time that is over.
    """

    name: str
    X: Matrix
    y: Labels
    columns: tuple[str, ...]
    honest: Answers
    leaking: tuple[Answers, ...]
    wrong: tuple[Answers, ...]

    def verdict(self, challenger: Answers, champion: Answers, first: int, rows: int) -> tuple[str, float, float]:
        """What the gate says of `rows` neighbouring rows, the plain difference of the losses, and the seconds."""
        part = slice(first, first + rows)
        features = {name: self.X[part, i] for i, name in enumerate(self.columns)}
        if challenger.leak is not None:
            features["leak"] = challenger.leak[part]
        ours, theirs = (HoldoutScores(self.y[part], _scores(each.odds[part])) for each in (challenger, champion))
        started = time.perf_counter()
        decision = judge(ours, theirs, POLICY, features=features, segments={self.columns[0]: self.X[part, 0]})
        return decision.action, decision.evidence["gain"], time.perf_counter() - started

    def place(self, rng: np.random.Generator, rows: int) -> int:
        """Where a holdout begins."""
        return int(rng.integers(0, len(self.y) - rows))


def run() -> list[Result]:
    """Plant them all; the seed is fixed."""
    pools, rng = (_taxi(), _synthetic()), np.random.default_rng(11)
    worse = [found for pool in pools for found in _worse(pool, rng, WORSE // len(pools))]
    better = [found for pool in pools for found in _better(pool, rng, BETTER // len(pools))]
    equal = [found for pool in pools for found in _equal(pool, rng, EQUAL // len(pools))]
    seconds = [found[2] for found in [*worse, *better, *equal]]
    return [
        _share("planted worse challengers (noise, label leak, wrong window) promoted", worse, target=0.0),
        _naive("the same by the lower log-loss alone", worse),
        _share("planted better challengers (1 to 2 detectable effects) promoted", better, better="higher", target=0.95),
        _share("equal challengers promoted, at 95 % confidence", equal, target=0.05),
        _naive("the same by the lower log-loss alone, equal", equal),
        Result("gate: a verdict on 2,000 rows", 1000 * statistics.median(seconds), "ms", "lower", n=len(seconds)),
    ]


def _worse(pool: Pool, rng: np.random.Generator, n: int) -> Iterator[tuple[str, float, float]]:
    for i in range(n):
        kind = i % 3
        if kind == 0:
            challenger = _blurred(pool.honest, rng, rng.uniform(0.4, 1.5))
        else:
            planted = pool.leaking if kind == 1 else pool.wrong
            challenger = planted[(i // 3) % len(planted)]
        yield pool.verdict(challenger, pool.honest, pool.place(rng, HOLDOUT_ROWS), HOLDOUT_ROWS)


def _better(pool: Pool, rng: np.random.Generator, n: int) -> Iterator[tuple[str, float, float]]:
    """A champion with noise, on as many rows as make its honest successor's gain 1 to 2 detectable effects."""
    for _ in range(n):
        champion = _blurred(pool.honest, rng, rng.uniform(0.35, 1.0))
        difference = _losses(pool, champion) - _losses(pool, pool.honest)
        effects = rng.uniform(1.0, 2.0)
        # the error of one row's difference: how many of one row make `effects` detectable effects of the gain
        rows = rows_to_detect(float(difference.mean()) / effects, float(difference.std()), 1, _CRITICAL, POWER)
        assert rows is not None and rows < len(pool.y) // 2, rows
        rows = max(rows, 200)
        yield pool.verdict(pool.honest, champion, pool.place(rng, rows), rows)


def _equal(pool: Pool, rng: np.random.Generator, n: int) -> Iterator[tuple[str, float, float]]:
    for _ in range(n):
        noise = rng.uniform(0.1, 0.6)
        one, other = (_blurred(pool.honest, rng, noise) for _ in range(2))
        yield pool.verdict(one, other, pool.place(rng, HOLDOUT_ROWS), HOLDOUT_ROWS)


def _share(
    name: str, found: list[tuple[str, float, float]], *, better: Any = "lower", target: float | None = None
) -> Result:
    promoted = sum(action == "promote" for action, _, _ in found) / len(found)
    return Result(f"gate: {name}", promoted, "share", better, target=target, n=len(found))


def _naive(name: str, found: list[tuple[str, float, float]]) -> Result:
    promoted = sum(gain > 0 for _, gain, _ in found) / len(found)
    return Result(f"gate: {name}", promoted, "share", "lower", n=len(found))


def _taxi() -> Pool:
    """Trips after the congestion surcharge began in February 2019, scored from what the passenger's request says."""
    use_case = load_use_case(ROOT / "models" / "taxi_tip.py").use_case
    past = use_case.history(ROOT / "data")
    at = past.requests["at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    view = feature_set(use_case).request_views[0]
    columns = view.compute(
        {n: at.astype(np.int64) if n == "at" else past.requests[n].to_numpy(np.float64) for n in view.inputs}
    )
    columns = {"vendor_id": columns["vendor_id"], **columns}
    X = np.stack([np.asarray(values, dtype=np.float32) for values in columns.values()], axis=1)
    y = past.labels["label"].to_numpy(np.int64)
    assert (past.labels["key"].to_numpy() == past.requests["key"].to_numpy()).all()

    def months(since: str, until: str) -> slice:
        return slice(*np.searchsorted(at, np.array([since, until], dtype="datetime64[us]")))

    pool, just_before = months("2019-06", "2020-01"), months("2019-04", "2019-06")
    old = [months("2018-02", "2018-04"), months("2018-07", "2018-09"), months("2018-11", "2019-01")]

    def trained(rows: slice, leak: Matrix | None = None) -> Answers:
        seen = X if leak is None else np.column_stack([X, leak])
        model = use_case.estimator(tuple(columns))
        model.fit(seen[rows], y[rows])
        return Answers(_odds(model.predict_proba(seen[pool])[:, 1]), None if leak is None else leak[pool])

    return Pool(
        "taxi_tip", X[pool], y[pool], tuple(columns), trained(just_before),
        tuple(trained(just_before, _leak(y, kind)) for kind in _LEAKS), tuple(trained(rows) for rows in old),
    )  # fmt: skip


def _synthetic() -> Pool:
    """A logistic relation that turned some time ago."""
    from sklearn.linear_model import LogisticRegression

    rng, n = np.random.default_rng(5), 50_000
    X = rng.normal(size=(n, 8)).astype(np.float32)
    X[:, 0] = rng.integers(0, 4, n)
    before, after = rng.normal(size=(2, 8)) * 0.6
    changed, pool = 15_000, slice(20_000, n)
    odds = np.where(np.arange(n) < changed, X @ before, X @ after)
    y = (rng.uniform(size=n) < _scores(odds)).astype(np.int64)

    def trained(rows: slice, leak: Matrix | None = None) -> Answers:
        seen = X if leak is None else np.nan_to_num(np.column_stack([X, leak]), nan=-9.0)
        model = LogisticRegression().fit(seen[rows], y[rows])
        return Answers(_odds(model.predict_proba(seen[pool])[:, 1]), None if leak is None else leak[pool])

    newest = slice(changed, 20_000)
    old = [slice(0, 5000), slice(5000, 10_000), slice(10_000, changed)]
    return Pool(
        "synthetic", X[pool], y[pool], tuple(f"x{i}" for i in range(8)), trained(newest),
        tuple(trained(newest, _leak(y, kind)) for kind in _LEAKS), tuple(trained(rows) for rows in old),
    )  # fmt: skip


def _leak(y: Labels, kind: str) -> Matrix:
    rng = np.random.default_rng(17)
    if kind == "missing":
        return np.where(y == 1, np.nan, rng.normal(size=len(y))).astype(np.float32)
    flipped = rng.uniform(size=len(y)) < {"copy": 0.0, "2 % flipped": 0.02, "10 % flipped": 0.1}[kind]
    return np.where(flipped, 1 - y, y).astype(np.float32)


def _blurred(answers: Answers, rng: np.random.Generator, noise: float) -> Answers:
    return Answers(answers.odds + noise * rng.normal(size=len(answers.odds)))


def _losses(pool: Pool, answers: Answers) -> Floats:
    return metrics.row_log_loss(pool.y, _scores(answers.odds))


def _scores(odds: Floats) -> npt.NDArray[np.float32]:
    scores: npt.NDArray[np.float32] = (1 / (1 + np.exp(-odds))).astype(np.float32)
    return scores


def _odds(scores: Floats) -> Floats:
    bounded = np.clip(np.asarray(scores, dtype=np.float64), 1e-6, 1 - 1e-6)
    odds: Floats = np.log(bounded / (1 - bounded))
    return odds
