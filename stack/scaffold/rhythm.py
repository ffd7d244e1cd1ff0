"""How fast things happen in a table, and what follows: windows, policy and the span to replay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from stack.scaffold.errors import TableError
from stack.scaffold.times import is_date_only

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_WINDOWS = (10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 28 * DAY, 91 * DAY, 364 * DAY)
_TILES = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 13 * DAY, 28 * DAY)
_TICKS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 28 * DAY)
_LOOKS = (10 * MINUTE, HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 182 * DAY)
_DELAYS = (
    MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
    *(days * DAY for days in (1, 2, 7, 14, 30, 60, 90, 180, 365)),
)  # fmt: skip
_SHORT_EVENTS, _LONG_EVENTS, _MOST_TIMES = 3, 25, 10
REPLAYED_ROWS, _ENOUGH_ROWS, _MOST_LOOKS = 24_000, 2500, 5
_MOST_TICKS, _ENOUGH_ONES = (1000, 2500), 500
_LEAST_SPAN = 10 * MINUTE
_LEAST_FIRST = 150


@dataclass(frozen=True)
class Past:
    """How an entity's past is looked at.

    Args:
        tile: of the windows.
        short: a window that mostly holds a few rows.
        long: one that holds enough to tell a rate.
    """

    tile: timedelta
    short: timedelta
    long: timedelta


@dataclass(frozen=True)
class Rhythm:
    """What the times of a table suggest.

    Args:
        pasts: windows of each entity.
        lateness: of the windows; no shorter than `tick`.
        start: of the replay.
        first_training: when its first version is trained.
        end: of the replay.
        tick: event time sent at once.
        training_window: what is trained on.
        monitor_every: between two looks, and how far each looks back.
        retrain_every: at the latest.
        holdout_rows: newest labelled rows to compare versions on.
        min_rows: fewest labelled rows to train on.
        min_monitor_rows: fewest rows to judge on.
        first_rows: labelled rows that the first version is trained and judged on.
        first_ones: how many of these have the rarer label.
    """

    pasts: tuple[Past, ...]
    lateness: timedelta
    start: datetime
    first_training: datetime
    end: datetime
    tick: timedelta
    training_window: timedelta
    monitor_every: timedelta
    retrain_every: timedelta
    holdout_rows: int
    min_rows: int
    min_monitor_rows: int
    first_rows: int
    first_ones: int


def guess_delay(at: pd.Series) -> timedelta:
    """How long after the question a label comes, where no column says so: the usual step of the data, mostly."""
    moments = np.unique(at.dropna().dt.tz_localize(None).to_numpy())
    span = _span(at)
    if is_date_only(at):
        return DAY
    gap = (
        timedelta(microseconds=int(np.median(np.diff(moments).astype("timedelta64[us]").astype(np.int64))))
        if len(moments) > 1
        else HOUR
    )
    if gap >= 30 * MINUTE:
        return at_least(gap, _DELAYS)
    return HOUR if span >= 2 * DAY else at_most(span / 50, _DELAYS)


def horizon_of(delays: pd.Series) -> timedelta:
    """A horizon that nearly all labels keep to: a round number above the longest, or above all but 1 in 200."""
    seconds = delays.dt.total_seconds()
    longest, most = (timedelta(seconds=float(each)) for each in (seconds.max(), seconds.quantile(0.995)))
    return at_least(max(longest if longest <= 3 * most else most, MINUTE), _DELAYS)


def find_rhythm(at: pd.Series, outcome: pd.Series, horizon: timedelta, counts: Sequence[pd.Series]) -> Rhythm:
    """Choose windows, policy and replay.

    Args:
        at: the moment of every row that has one, sorted.
        outcome: 1, 0 or NaN, in the same order.
        horizon: of the label.
        counts: for each entity, rows of each of its values.

    Raises:
        TableError: if the times are too close together, or the horizon is too long for them.
    """
    span = _span(at)
    if span < _LEAST_SPAN:
        raise TableError(
            f"All rows lie within {span}, from {at.iloc[0]:%Y-%m-%d %H:%M:%S} to {at.iloc[-1]:%Y-%m-%d %H:%M:%S}.",
            "See that --time names the right column; windows over the past need at least ten minutes of it.",
        )
    rarer = min(float(outcome.mean()), 1 - float(outcome.mean()))
    labelled = at[outcome.notna()]
    used = labelled.iloc[-1] - labelled.iloc[-_most_rows(rarer) :].iloc[0]
    pasts = tuple(_past(span, used.to_pytimedelta(), each, is_date_only(at), rarer) for each in counts)
    shortest = min(past.short for past in pasts)
    # what comes of questions is sent tick by tick: shorter than the short window, or it would be empty in the replay
    tick = at_most(shortest / 2, _TICKS)
    newest = _newest(labelled, tick, rarer)
    round_to = DAY if newest.iloc[-1] - newest.iloc[0] > 10 * DAY else 10 * MINUTE
    start = _round(newest.iloc[0], round_to, up=False)
    first = _first_training(newest, horizon, round_to)
    end = _round(newest.iloc[-1] + horizon, round_to, up=True)
    before = outcome[(at > start) & (at <= first - horizon) & outcome.notna()]
    if len(before) < _LEAST_FIRST or before.nunique() < 2:
        raise TableError(
            f"The label comes {horizon} after the question, and only {len(before)} labels are known by {first:%Y-%m-%d}"
            f"{' and they are all the same' if len(before) >= _LEAST_FIRST else ''}.",
            "Give a shorter --horizon, or more of the past.",
        )
    look = at_least((end - first) / _MOST_LOOKS, _LOOKS)
    holdout = int(min(max(len(before) * 0.2, 50), 2000))
    per_look = len(newest) * (look / (newest.iloc[-1] - newest.iloc[0]).to_pytimedelta())
    return Rhythm(
        pasts=pasts, lateness=max(tick, min(6 * HOUR, shortest)), start=start,
        first_training=first, end=end, tick=tick, training_window=_whole(first - start), monitor_every=look,
        retrain_every=4 * look, holdout_rows=_tidy(holdout), min_rows=_tidy(max(int(len(before) * 0.6), holdout + 50)),
        min_monitor_rows=_tidy(int(min(max(per_look * 0.3, 40), 1000))), first_rows=len(before),
        first_ones=int(min(before.sum(), len(before) - before.sum())),
    )  # fmt: skip


def _most_rows(rarer: float) -> int:
    return int(min(max(_ENOUGH_ONES / rarer, REPLAYED_ROWS), 3 * REPLAYED_ROWS))


def _newest(labelled: pd.Series, tick: timedelta, rarer: float) -> pd.Series:
    """The newest labelled rows, as many as a replay of a few minutes bears; more where one label is rare."""
    newest = labelled.iloc[-_most_rows(rarer) :]
    for most_ticks in _MOST_TICKS:
        found: pd.Series = newest[newest > newest.iloc[-1] - most_ticks * tick]
        if len(found) >= _ENOUGH_ROWS:
            return found
    return newest


def _first_training(newest: pd.Series, horizon: timedelta, round_to: timedelta) -> datetime:
    for share in (0.6, 0.5, 0.4):
        moment = newest.iloc[int(len(newest) * share)] + horizon
        first = _round(moment, round_to, up=True)
        if pd.Timestamp(first) < newest.iloc[-1]:
            return first
    raise TableError(
        f"The label comes {horizon} after the question, and the rows span only {newest.iloc[-1] - newest.iloc[0]}.",
        "Give a shorter --horizon, or more of the past.",
    )


def _past(span: timedelta, used: timedelta, counts: pd.Series, only_dates: bool, rarer: float) -> Past:
    # the value that the median row belongs to
    ordered = np.sort(counts.to_numpy())
    typical = float(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])
    first = _WINDOWS.index(7 * DAY) if only_dates else 0
    per_event = span / typical
    short = max(_place(_SHORT_EVENTS * per_event, used / 24), first)
    # a rate of something rare takes more events to tell
    enough = _LONG_EVENTS * min(0.5 / rarer, _MOST_TIMES)
    long = min(max(_place(enough * per_event, used / 4), short + 1), short + 2, len(_WINDOWS) - 1)
    short = min(short, long - 1)
    return Past(_TILES[short], _WINDOWS[short], _WINDOWS[long])


def _place(wanted: timedelta, most: timedelta) -> int:
    fitting = [i for i, window in enumerate(_WINDOWS) if window <= most] or [0]
    return next((i for i in fitting if _WINDOWS[i] >= wanted), fitting[-1])


def at_least(span: timedelta, ladder: tuple[timedelta, ...]) -> timedelta:
    """The shortest of the ladder that is no shorter; beyond its end, whole days."""
    return next((step for step in ladder if step >= span), math.ceil(span / DAY) * DAY)


def at_most(span: timedelta, ladder: tuple[timedelta, ...]) -> timedelta:
    """The longest of the ladder that is no longer; at least its first."""
    return max((step for step in ladder if step <= span), default=ladder[0])


def _span(at: pd.Series) -> timedelta:
    present = at.dropna()
    found: timedelta = (present.max() - present.min()).to_pytimedelta()
    return found


def _whole(span: timedelta) -> timedelta:
    unit = DAY if span > 2 * DAY else 10 * MINUTE
    return math.ceil(span / unit) * unit


def _tidy(rows: int) -> int:
    step = int(10 ** max(len(str(rows)) - 2, 0))
    return max(rows // step * step, 1)


def _round(moment: pd.Timestamp, unit: timedelta, *, up: bool) -> datetime:
    since = moment.to_pydatetime().astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    steps = -(-since // unit) if up else since // unit
    return datetime(1970, 1, 1, tzinfo=UTC) + steps * unit
