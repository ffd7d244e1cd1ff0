"""Drift: how often it is seen where there is none, how often where there is, and what a look costs."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.drift_oracles import Seen, StreamOracle, afterwards
from bench.judged_streams import (
    CODES,
    COLUMNS,
    HISTORIES,
    REFERENCE_DAYS,
    REFERENCE_ROWS,
    SHIFTED,
    History,
    Stream,
    weeks,
)
from bench.measure import Result, median_seconds
from bench.peers import ROOT
from core.policy import DriftPolicy
from monitoring.drift import find_drift
from monitoring.facts import DriftFacts
from monitoring.profile import ReferenceProfile
from monitoring.profiling import profile_reference
from monitoring.window import WindowProfile

POLICY = DriftPolicy()
WINDOWS = 100
_FALSE_ALARM_WINDOWS = 400
_WEEKS = 26
_SHIFT_SD, _POWER_ROWS = 0.1, 5_000
_KS_LEVEL = 0.05
_EVIDENTLY_WINDOWS = 5
_LARGE_ROWS, _CHUNK = 1_000_000, 100_000
_EVIDENTLY_ROWS = 1_000_000
INDEPENDENT = Stream(101)
# several of each: the days' own ways are the same for all windows of one
STREAMS = {
    "independent rows": [Stream(701 + i) for i in range(4)],
    "days correlated by 0.7 (0.03 sd), a weekly wave": [Stream(601 + i, ar=0.03, season=0.3) for i in range(12)],
}
# Bikes have two years: a version made on the first one has seen every season. Flights have one: a version made on the
# first 120 days, as a quarterly schedule would, then one on all days up to each quarter.
_REAL = {"bikes": (365, 365), "flights": (120, 90)}


def run() -> list[Result]:
    """All parts."""
    return [*false_alarms(), *power(), *real_false_alarms(), *real_power(), *cost()]


def profile(rows: pd.DataFrame, columns: Sequence[str], codes: Sequence[str]) -> ReferenceProfile:
    """The reference profile of a frame with ``at``."""
    at = rows["at"].dt.tz_convert(None).to_numpy()
    matrix = rows[list(columns)].to_numpy(dtype=np.float32)
    return profile_reference(matrix, columns, at=at, categorical=codes)


def false_alarms(windows: int = _FALSE_ALARM_WINDOWS) -> list[Result]:
    """Windows from the reference's own distribution in which anything is raised, beside the usual tests."""
    stream = INDEPENDENT
    base = stream.rows(range(REFERENCE_DAYS), REFERENCE_ROWS, draw=0)
    reference, results = profile(base, COLUMNS, CODES), []
    for rows in (5_000, 500):
        drawn = [stream.rows(_days(i), rows, draw=1 + i) for i in range(windows)]
        raised = sum(bool(_look(reference, window).over) for window in drawn)
        tested = sum(_any_test(base, window) for window in drawn[:WINDOWS])
        name = f"false alarms: {windows} windows of {rows:,} rows x 30"
        results.append(Result(name, 100 * raised / windows, "%", "lower", target=1.0, n=windows))
        peer = f"KS or chi-square test per column at {_KS_LEVEL}: {rows:,} rows"
        results.append(Result(peer, 100 * tested / WINDOWS, "%", "lower", n=WINDOWS))
        few = drawn[:_EVIDENTLY_WINDOWS]
        flagged = [_evidently(base, window) for window in few]
        evidently = f"Evidently's defaults, any column: {rows:,} rows"
        results.append(Result(evidently, 100 * float(np.mean(flagged)), "%", "lower", n=len(few)))
    return results


def power(windows: int = WINDOWS // 4) -> list[Result]:
    """Windows of 5,000 rows of each stream with 3 of 30 columns shifted by 0.1 sd: seen, and those 3 named first.

    Beside it what an oracle comes to on the same rows, and what three such weeks in a row say together.
    """
    results = []
    for name, streams in STREAMS.items():
        found = [_power(stream, windows) for stream in streams]
        looks = [look for each in found for look in each.moved]
        called = [look for each in found for look in each.together]
        what, knows = f"power, {name}", "by who knows how the days vary"
        weeks_in_a_row = f"{what}, {POLICY.of} weeks of it"
        results += [
            _share(f"{what}: 0.1 sd in 3 of 30 columns seen", [bool(look.over) for look in looks], 95.0),
            _share(f"{what}: seen {knows}", np.concatenate([each.alone_known.seen for each in found])),
            _share(f"{what}: those 3 named first", [_first(look, SHIFTED) for look in looks], 95.0),
            _share(f"{what}: those 3 the furthest {knows}", np.concatenate([each.alone_known.first for each in found])),
            Result(
                f"{what}: of those 3 named before any other",
                100 * float(np.mean([_named_before_others(look, SHIFTED) for look in looks])) / len(SHIFTED),
                "%", "higher", n=len(looks),
            ),
            _share(f"{weeks_in_a_row}: drift called", [bool(look.called) for look in called], 95.0),
            _share(f"{weeks_in_a_row}: those 3 named first", [set(f.moved[:3]) == set(SHIFTED) for f in called], 95.0),
            _share(f"{weeks_in_a_row}: seen {knows}", np.concatenate([each.together_known.seen for each in found])),
            _share(
                f"{weeks_in_a_row}: those 3 the furthest {knows}",
                np.concatenate([each.together_known.first for each in found]),
            ),
            replace(
                _share(f"false alarms, {name}", [bool(look.over) for each in found for look in each.still], 1.0),
                better="lower",
            ),
        ]  # fmt: skip
    return results


@dataclass(frozen=True)
class _Looks:
    """At windows of one stream: without a shift, with one, at several of these in a row, and what an oracle says."""

    still: list[DriftFacts]
    moved: list[DriftFacts]
    together: list[DriftFacts]
    alone_known: Seen
    together_known: Seen


def _power(stream: Stream, windows: int) -> _Looks:
    reference = profile(stream.rows(range(REFERENCE_DAYS), REFERENCE_ROWS, draw=0), COLUMNS, CODES)
    shifted = [
        WindowProfile(reference).add(stream.rows(_days(i), _POWER_ROWS, draw=1 + i, shift=_SHIFT_SD))
        for i in range(windows)
    ]
    rows = [[i + j for j in range(POLICY.of)] for i in range(windows - POLICY.of) if _week(i) + POLICY.of <= _WEEKS]
    oracle = StreamOracle(stream, POLICY.false_alarms)
    alone, together = (
        oracle.look([[(_days(i), 1 + i) for i in each] for each in looks], _POWER_ROWS, _SHIFT_SD)
        for looks in ([[i] for i in range(windows)], rows)
    )
    return _Looks(
        still=[_look(reference, stream.rows(_days(i), _POWER_ROWS, draw=1 + i)) for i in range(windows)],
        moved=[find_drift(reference, [window], POLICY) for window in shifted],
        together=[find_drift(reference, [shifted[i] for i in each], POLICY) for each in rows],
        alone_known=alone,
        together_known=together,
    )


def _share(name: str, hits: Sequence[bool] | npt.NDArray[np.bool_], target: float | None = None) -> Result:
    return Result(name, 100 * float(np.mean(hits)), "%", "higher", target=target, n=len(hits))


def real_false_alarms() -> list[Result]:
    """How often a year drift is called on real history where nothing but the season changes."""
    results = []
    for name, (first_days, days_between) in _REAL.items():
        called, over, looked = _watch(HISTORIES[name](ROOT / "data"), first_days, days_between)
        years = looked / 52.18
        results += [
            Result(f"called on {name}, a year", called / years, "", "lower", target=1.0, n=looked),
            Result(f"weeks of {name} with anything over its threshold", 100 * over / looked, "%", "lower", n=looked),
        ]
    return results


def real_power(shifted: int = 3) -> list[Result]:
    """Weeks of real history with the mean of three quantities moved by 0.1 sd, the reference being the time before.

    Values are drawn anew from the week's own, the larger ones more often, so that none occurs that never did.
    """
    results = []
    for name, days in (("taxi", 180), ("flights", 180)):  # days of the reference
        history = HISTORIES[name](ROOT / "data")
        start = history.rows["at"].iloc[0].normalize() + pd.Timedelta(days=days)
        base = history.between(history.rows["at"].iloc[0], start)
        reference = profile(base, history.columns, history.codes)
        names = [column for column in history.columns if column not in history.codes][:shifted]
        rng = np.random.default_rng(101)
        windows = [
            week.assign(**{column: _tilted(week[column], _scale(reference, column), rng) for column in names})
            for week in weeks(history, start)
        ]
        profiles = [WindowProfile(reference).add(window) for window in windows]
        looks = [find_drift(reference, [window], POLICY) for window in profiles]
        several = [
            find_drift(reference, profiles[i : i + POLICY.of], POLICY) for i in range(len(profiles) - POLICY.of + 1)
        ]
        seen = [bool({found.column for found in look.over} & set(names)) for look in looks]
        numbers = [column for column in history.columns if column not in history.codes]
        bound = afterwards(
            [_means(reference, week, numbers) for week in weeks(history, start)],
            [_means(reference, window, names) for window in windows],
        )
        rows, what = int(np.median([len(window) for window in windows])), f"power, {name} by week"
        text, knows = f"{what} ({rows:,} rows): 0.1 sd in {shifted} columns", "by who knows all weeks to come"
        results += [
            _share(f"{text} seen", seen, 95.0),
            _share(f"{text} seen {knows}", bound.seen),
            _share(f"{text}, those named first", [_first(found, names) for found in looks], 95.0),
            _share(f"{text}, those the furthest {knows}", bound.first),
            _share(f"{text}, {POLICY.of} weeks of it: called", [bool(found.called) for found in several], 95.0),
            _share(f"{text}, {POLICY.of} weeks of it: all those named", [set(names) <= set(f.moved) for f in several]),
            _share(
                f"{text}, {POLICY.of} weeks of it: those named first",
                [set(f.moved[:shifted]) == set(names) for f in several],
                95.0,
            ),
        ]
    return results


def _means(reference: ReferenceProfile, rows: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Of quantities, in standard deviations of the reference, without what lies outside of all but 1 % of it."""
    found = {}
    for name in names:
        quantiles = reference.summaries[name].quantiles
        clipped = rows[name].clip(quantiles[1], quantiles[-2]) if quantiles[1] < quantiles[-2] else rows[name]
        found[name] = float(clipped.mean()) / _scale(reference, name)
    return found


def cost(rows: int = _LARGE_ROWS) -> list[Result]:
    """A look at a window, beside Evidently's report on the same rows, and what memory it takes."""
    stream = INDEPENDENT
    base = stream.rows(range(REFERENCE_DAYS), REFERENCE_ROWS, draw=0)
    reference = profile(base, COLUMNS, CODES)
    large = stream.rows(range(REFERENCE_DAYS, REFERENCE_DAYS + 7), rows, draw=1)
    chunks = [large.iloc[first : first + _CHUNK] for first in range(0, rows, _CHUNK)]

    def check(parts: Sequence[pd.DataFrame] = chunks) -> DriftFacts:
        window = WindowProfile(reference)
        for part in parts:
            window.add(part)
        return find_drift(reference, [window], POLICY)

    ours = Result(f"drift check, {rows:,} x 30", median_seconds(check, 3), "s", "lower", n=3)
    began = time.perf_counter()
    _evidently_report(base, large)
    evidently = Result(f"Evidently report, {rows:,} x 30", time.perf_counter() - began, "s", "lower", n=1)
    check(chunks[:1])  # thresholds for a window of that size are found once
    peaks = [_peak_mb(lambda many=many: check(chunks[:many])) for many in (1, len(chunks))]
    memory = Result(f"memory of a check, {rows:,} rows", peaks[1], "MB", "lower", n=1)
    return [
        ours.versus(evidently, 0.1),
        evidently,
        memory.versus(replace(memory, name=f"{_CHUNK:,} rows", value=peaks[0]), 1.1),
    ]


def _watch(history: History, first_days: int, days_between: int) -> tuple[int, int, int]:
    """Times drift was called, weeks over, weeks looked at; a version is made anew as on a schedule, and when called."""
    start = history.rows["at"].iloc[0].normalize()
    made_at = start + pd.Timedelta(days=first_days)
    reference, windows, called, over, looked = None, [], 0, 0, 0
    for week in weeks(history, made_at):
        moment = week["at"].iloc[0].normalize()
        if reference is None or moment - made_at >= pd.Timedelta(days=days_between):
            reference, made_at, windows = (
                profile(history.between(start, moment), history.columns, history.codes),
                moment,
                [],
            )
        windows = [*windows[-5:], WindowProfile(reference).add(week)]
        found = find_drift(reference, windows, POLICY)
        looked, over = looked + 1, over + bool(found.over)
        if found.called:
            called, reference = called + 1, None
    return called, over, looked


def _look(reference: ReferenceProfile, window: pd.DataFrame) -> DriftFacts:
    return find_drift(reference, [WindowProfile(reference).add(window)], POLICY)


def _first(found: DriftFacts, names: Sequence[str]) -> bool:
    return {column.column for column in found.over[: len(names)]} == set(names)


def _named_before_others(found: DriftFacts, names: Sequence[str]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda column: column.column in names, found.over))


def _week(i: int) -> int:
    return i % _WEEKS


def _days(i: int) -> range:
    start = REFERENCE_DAYS + 7 * _week(i)
    return range(start, start + 7)


def _scale(reference: ReferenceProfile, name: str) -> float:
    return next(column.scale for column in reference.bins if column.name == name)


def _tilted(values: pd.Series, scale: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:  # type: ignore[type-arg]
    """As many values drawn from these, weighted so that their mean is `_SHIFT_SD` scales higher."""
    known = values.dropna().to_numpy(dtype=np.float64)
    away = np.clip((known - known.mean()) / scale, -4, 4)
    weights = np.exp(_SHIFT_SD / max(float(away.var()), 0.1) * away)
    return rng.choice(known, values.size, p=weights / weights.sum()).astype(np.float32)


def _any_test(base: pd.DataFrame, window: pd.DataFrame) -> bool:
    from scipy.stats import chi2_contingency, ks_2samp

    for name in COLUMNS:
        ours, theirs = window[name].to_numpy(), base[name].to_numpy()
        if name in CODES:
            both = np.unique(np.r_[ours, theirs])
            table = np.stack([[np.count_nonzero(side == code) for code in both] for side in (ours, theirs)])
            p_value = chi2_contingency(table).pvalue
        else:
            p_value = ks_2samp(ours, theirs, method="asymp").pvalue
        if p_value < _KS_LEVEL:
            return True
    return False


def _evidently_report(base: pd.DataFrame, window: pd.DataFrame) -> object:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in COLUMNS if name not in CODES]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=list(CODES))
    sides = [Dataset.from_pandas(side[list(COLUMNS)], data_definition=definition) for side in (window, base)]
    return Report([DataDriftPreset()]).run(*sides)


def _evidently(base: pd.DataFrame, window: pd.DataFrame) -> bool:
    """Whether Evidently's defaults call any column drifted."""
    snapshot = _evidently_report(base, window)
    counted = next(m for m in snapshot.dict()["metrics"] if "DriftedColumnsCount" in str(m))  # type: ignore[attr-defined]
    return float(counted["value"]["count"]) > 0


def _peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    for result in run():
        print(result)
