"""Policies on the past: three years of `taxi_tip` under nine of them, and the same where nothing drifts.

Without drift means: the days of `taxi_tip` in another order, so that whatever changed from month to month is spread
evenly; and those of `flight_delay`, likewise, the readings of the weather with them. Weekdays stay weekdays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.measure import Result
from bench.peers import ROOT
from core.discovery import load_use_case
from core.settings import Settings
from core.use_case import History, UseCase
from features.definitions import BatchView, ParquetTable
from flows.replay import run_replay
from flows.replay_inputs import ReplayInputs, ReplaySpec, made_of
from monitoring.replay.course import Course, Step, losses_of
from monitoring.replay.outcome import Comparison, Outcome
from monitoring.replay.policies import NAMES
from monitoring.replay.simulation import Simulation

_SHUFFLED = {"taxi_tip": datetime(2018, 3, 1, tzinfo=UTC), "flight_delay": datetime(2013, 3, 3, tzinfo=UTC)}
_MINUTES, _WITHIN, _SHARE = 10.0, 2.0, 25.0
_DAY_US = 86_400_000_000
_TRIGGERED = ("performance", "drift", "cost")
_SEED = 11


def run() -> list[Result]:
    """Replay everything, from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), models_dir=ROOT / "models", data_dir=ROOT / "data")
        spec = ReplaySpec("taxi_tip", settings.models_dir, settings.data_dir, settings.home, NAMES)
        results = taxi(run_replay(spec, settings), spec)
        for name, since in _SHUFFLED.items():
            declared = load_use_case(ROOT / "models" / f"{name}.py")
            past = declared.use_case.history(ROOT / "data")
            order = DayOrder.of(past)
            data = _shuffled_tables(declared.use_case, ROOT / "data", Path(folder) / name, order)
            wanted = replace(spec, use_case=name, policies=(*_TRIGGERED, "monthly"), since=since, data_dir=data)
            history = shuffled_days(past, order)
            results += without_drift(f"{name}, days shuffled", made_of(wanted, declared, history))
    return results


def taxi(found: Comparison, spec: ReplaySpec) -> list[Result]:
    """What nine policies came to on three years of taxis."""
    by_name = {outcome.policy: outcome for outcome in found.outcomes}
    always, monthly = by_name["always"], by_name["monthly"]
    chosen = by_name[found.recommended or "always"]
    what = f"taxi_tip 2018-2020, {len(spec.policies)} policies"
    n, worse = found.rows, 100 * (chosen.log_loss / always.log_loss - 1)
    results = [
        Result(f"{what}: replay from nothing", found.wall_s / 60, "min", "lower", _MINUTES, n=1),
        Result(f"{what}: log-loss of the chosen one ({chosen.policy}) over always", worse, "%", "lower", _WITHIN, n=n),
        Result(
            f"{what}: retrains of the chosen one, of those of always",
            100 * chosen.retrains / always.retrains, "%", "lower", _SHARE, n=always.retrains,
        ),
        Result("log-loss of the chosen one", chosen.log_loss, "nats", "lower", n=n).versus(
            Result("log-loss of monthly", monthly.log_loss, "nats", "lower"), 1.0
        ),
        Result("retrains of the chosen one", chosen.retrains, "", "lower", n=1).versus(
            Result("retrains of monthly", max(monthly.retrains, 1), "", "lower"), 1.0
        ),
    ]  # fmt: skip
    return results + [_row(outcome, n) for outcome in found.outcomes]


def _row(outcome: Outcome, n: int) -> Result:
    name = (
        f"taxi_tip, {outcome.policy}: log-loss ({outcome.retrains} retrains, {outcome.refused} refused, "
        f"{outcome.taken_back} taken back, {outcome.alarms} alarms, {outcome.compute_s:.0f} s)"
    )
    return Result(name, outcome.log_loss, "nats", "lower", n=n)


def without_drift(name: str, inputs: ReplayInputs) -> list[Result]:
    """Retrains that were triggered though nothing drifts, and promotions whose gain did not come true.

    A promotion claims a gain of the gate's interval. It did not come true if the mean gain over all that the version
    answered lies, with its own interval of three standard errors, wholly below that.
    """
    courses = [
        Simulation(inputs.asked, policy, inputs.policies[policy], inputs.trainings, inputs.gate(policy), inputs.windows)
        for policy in inputs.policies
    ]
    done = {course.policy: course for course in (each.run(inputs.span) for each in courses)}
    triggered = max(done[policy].retrains for policy in _TRIGGERED)
    beyond, claimed = _beyond(inputs, list(done.values()))
    alarms = max(sum(step.decision.action == "alarm" for step in done[policy].steps) for policy in _TRIGGERED)
    steps = inputs.span.steps
    return [
        Result(
            f"{name}: retrains triggered, the most of {', '.join(_TRIGGERED)}", triggered, "", "lower", 1.0, n=steps
        ),
        Result(f"{name}: alarms at the same looks", alarms, "", "lower", n=steps),
        Result(f"{name}: promotions whose gain was not in its interval", beyond, "", "lower", 0.0, n=claimed),
    ]


def _beyond(inputs: ReplayInputs, courses: Sequence[Course]) -> tuple[int, int]:
    """Promotions claimed beyond their interval, and all promotions."""
    asked = inputs.asked
    seen: dict[tuple[str, datetime], Step] = {}
    for course in courses:
        champions = [f"{inputs.span.start:%Y-%m-%dT%H:%M}", *(step.champion for step in course.steps)]
        for before, step in zip(champions[:-1], course.steps, strict=True):
            if step.verdict is not None and step.verdict.action == "promote":
                seen[before, step.at] = step
    versions = {each.version: each for each in inputs.trainings.all}
    beyond = 0
    for (before, at), step in seen.items():
        rows = asked.between(at, at + timedelta(days=56))
        old, new = (losses_of(asked, versions[name].scores)[rows] for name in (before, step.champion))
        gain = (old - new)[~np.isnan(old - new)]
        high = gain.mean() + 3 * gain.std() / np.sqrt(len(gain))
        beyond += step.verdict is not None and bool(high < step.verdict.evidence["gain_interval"][0])
    return beyond, len(seen)


@dataclass(frozen=True)
class DayOrder:
    """Days in another order, weekdays with weekdays.

    Args:
        first: day since 1970.
        place: of each day since then, which one it becomes, (days + 1,).
    """

    first: int
    place: npt.NDArray[np.int64]

    @classmethod
    def of(cls, past: History, seed: int = _SEED) -> DayOrder:
        """Some order of the days in which something was asked."""
        first = int(past.requests["at"].iloc[0].value // 1000 // _DAY_US)
        days = int(past.requests["at"].iloc[-1].value // 1000 // _DAY_US) - first + 1
        rng, place = np.random.default_rng(seed), np.arange(days + 1)
        for weekday in range(7):
            own = np.arange(weekday, days, 7)
            place[own] = rng.permutation(own)
        return cls(first, place)

    def moved(self, frame: pd.DataFrame, at: str = "at") -> pd.DataFrame:
        """The rows of each day on the day it becomes, at the same time; days outside stay."""
        at_us = pd.to_datetime(frame[at], utc=True).astype("datetime64[us, UTC]").astype("int64").to_numpy()
        day = at_us // _DAY_US - self.first
        inside = (day >= 0) & (day < len(self.place))
        fresh = at_us + np.where(inside, self.place[np.clip(day, 0, len(self.place) - 1)] - day, 0) * _DAY_US
        moments = pd.to_datetime(fresh, unit="us", utc=True).astype("datetime64[us, UTC]")
        return frame.assign(**{at: moments}).sort_values(at, kind="stable").reset_index(drop=True)


def _shuffled_tables(use_case: UseCase, source: Path, target: Path, order: DayOrder) -> Path:
    """A folder with the tables that features are read from, their days in that order; those without time as they are.

    Else the weather would go on from winter to summer over flights that do not, which is drift.
    """
    for view in use_case.features.views:
        table = view.source if isinstance(view, BatchView) else None
        if not isinstance(table, ParquetTable):
            continue
        rows, file = pd.read_parquet(source / table.path), target / table.path
        file.parent.mkdir(parents=True, exist_ok=True)
        (rows if table.at is None else order.moved(rows, table.at)).to_parquet(file)
    return target


def shuffled_days(past: History, order: DayOrder | None = None) -> History:
    """The same history with its days in another order; the time of day stays, weekdays with weekdays."""
    moved = (order or DayOrder.of(past)).moved
    # what is known of a question after midnight moves with its own day: labels and events follow their question
    asked = past.requests.set_index("key")["at"]
    requests = moved(past.requests)
    shift = (requests.set_index("key")["at"] - asked.reindex(requests["key"])).rename("shift")

    def following(frame: pd.DataFrame, key: str) -> pd.DataFrame:
        by = frame[key].map(shift)
        own = moved(frame[by.isna()]) if by.isna().any() else frame.iloc[:0]
        kept = frame[by.notna()]
        kept = kept.assign(at=(kept["at"] + by[by.notna()]).astype("datetime64[us, UTC]"))
        return pd.concat([kept, own]).sort_values("at", kind="stable").reset_index(drop=True)

    return History(
        requests, following(past.labels, "key"),
        {source: following(frame, "id") for source, frame in past.events.items()},
    )  # fmt: skip
