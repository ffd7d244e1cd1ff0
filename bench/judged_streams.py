"""The data that drift is measured on: made to measure, and real history with features of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

DAY_US = 86_400_000_000
START_US = 19_700 * DAY_US
COLUMNS = tuple(f"c{i:02d}" for i in range(30))
CODES = COLUMNS[24:]
SHIFTED = COLUMNS[:3]
REFERENCE_DAYS, REFERENCE_ROWS = 90, 30_000
_DAY_BY_DAY = 0.7

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Rows of 30 columns over time: normal, skewed, half of them zero, and codes.

    Args:
        seed: of the days' own ways.
        ar: standard deviation of what a day adds to each column, in those of the column, correlated with the day before
            by 0.7; 0: rows are independent.
        season: amplitude of a weekly wave, likewise.
    """

    seed: int
    ar: float = 0.0
    season: float = 0.0

    def rows(self, days: range, rows: int, draw: int, shift: float = 0.0) -> pd.DataFrame:
        """`rows` rows spread evenly over some days: ``at`` and the columns, the shift added to `SHIFTED`.

        The first three columns are normal with standard deviation 1.
        """
        at_us, values = self.latent(days, rows, draw, shift)
        values[:, 8:16] = np.exp(values[:, 8:16])
        values[:, 16:24] = np.maximum(values[:, 16:24], 0.0)
        values[:, 24:] = np.floor(4 + 2 * values[:, 24:]).clip(0, 9)
        table = pd.DataFrame(values.astype(np.float32), columns=list(COLUMNS))
        return table.assign(at=pd.to_datetime(at_us, unit="us", utc=True))

    def latent(self, days: range, rows: int, draw: int, shift: float = 0.0) -> tuple[npt.NDArray[np.int64], Floats]:
        """Moments of those rows, and the normal numbers their columns are made of, (rows, 30)."""
        rng = np.random.default_rng([self.seed, draw, 1])
        at_us = START_US + np.sort(rng.integers(days.start * DAY_US, days.stop * DAY_US, rows))
        day = (at_us - START_US) // DAY_US
        values = rng.standard_normal((rows, len(COLUMNS))) + self._ways(int(day.max()) + 1)[day]
        values[:, : len(SHIFTED)] += shift
        return at_us, values

    def wave(self, day: npt.NDArray[np.int64]) -> Floats:
        """What the weekly wave adds on some days, (days, 30)."""
        phase = np.random.default_rng([self.seed, 2]).uniform(0, 2 * np.pi, len(COLUMNS))
        return np.asarray(self.season * np.sin(2 * np.pi * day[:, None] / 7 + phase))

    def variance_of_mean(self, days: int) -> float:
        """Of what so many days in a row add on average, the wave left out."""
        apart = np.arange(1, days)
        return float(self.ar**2 / days * (1 + 2 * ((1 - apart / days) * _DAY_BY_DAY**apart).sum()))

    def _ways(self, days: int) -> Floats:
        """What each day adds to each column, (days, 30); the same for every draw."""
        rng = np.random.default_rng([self.seed, 2])
        rng.uniform(0, 2 * np.pi, len(COLUMNS))  # the phases of `wave`
        steps = rng.standard_normal((2_000, len(COLUMNS))) * np.sqrt(1 - _DAY_BY_DAY**2)
        ways = np.zeros_like(steps)
        for i in range(1, days):
            ways[i] = _DAY_BY_DAY * ways[i - 1] + steps[i]
        return self.ar * ways[:days] + self.wave(np.arange(days))


@dataclass(frozen=True)
class History:
    """Real rows in order of time.

    Args:
        name: of the data.
        rows: ``at`` and the columns.
        codes: which of them are codes.
        known_changes: moments when something really changed, and how long it took to be usual, in days.
    """

    name: str
    rows: pd.DataFrame
    codes: tuple[str, ...]
    known_changes: tuple[tuple[pd.Timestamp, float], ...] = ()

    @property
    def columns(self) -> list[str]:
        """All but ``at``."""
        return [name for name in self.rows.columns if name != "at"]

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Rows in [start, end)."""
        at = self.rows["at"]
        return self.rows[(at >= start) & (at < end)]


def bikes(folder: Path) -> History:
    """Hours of Capital Bikeshare 2011 and 2012 with the weather; the demand, which grew by two thirds, left out."""
    table = pd.read_parquet(folder / "bike_sharing" / "hour.parquet")
    at = pd.to_datetime(table["dteday"].astype(str)) + pd.to_timedelta(table["hr"], unit="h")
    names = ["hr", "weekday", "workingday", "holiday", "weathersit", "temp", "atemp", "hum", "windspeed"]
    return _history("bikes", table[names], at, ("hr", "weekday", "workingday", "holiday", "weathersit"))


def flights(folder: Path) -> History:
    """Departures out of New York in 2013 with their schedule and the weather."""
    table = pd.read_parquet(folder / "nycflights13" / "flights.parquet")
    weather = pd.read_parquet(folder / "nycflights13" / "weather.parquet")
    hour, minute = table["sched_dep_time"] // 100, table["sched_dep_time"] % 100
    day = pd.to_datetime({"year": 2013, "month": table["month"], "day": table["day"]})
    local = day + pd.to_timedelta(hour, unit="h") + pd.to_timedelta(minute, unit="min")
    at = local.dt.tz_localize("America/New_York").dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    measured = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]
    keys = ["origin", "time_hour"]
    weather = weather.assign(time_hour=weather["time_hour"].astype("datetime64[us, UTC]")).drop_duplicates(keys)
    table = table.assign(time_hour=at.dt.floor("h"), hour=hour, minute=minute, at=at)
    table = table.merge(weather[[*keys, *measured]], on=keys, how="left")
    for name in ("carrier", "origin"):
        table[name] = table[name].astype("category").cat.codes
    names = ["distance", "sched_dep_time", "sched_arr_time", "minute", *measured, "carrier", "origin", "hour"]
    return _history("flights", table[names], table["at"].dt.tz_convert(None), ("carrier", "origin", "hour"))


def taxi(folder: Path, until: str = "2019-01-01") -> History:
    """Trips of yellow taxis from 2018 on; at first, before the congestion surcharge of February 2019."""
    table = pd.read_parquet(folder / "nyc_taxi" / "yellow_trips_sample.parquet")
    table = table[(table["pickup_datetime"] >= "2018-01-01") & (table["pickup_datetime"] < until)]
    minutes = (table["dropoff_datetime"] - table["pickup_datetime"]).dt.total_seconds() / 60
    hour = table["pickup_datetime"].dt.hour
    numbers = ["passenger_count", "trip_distance", "fare_amount", "extra", "tip_amount", "tolls_amount", "total_amount"]
    codes = ["vendor_id", "rate_code_id", "payment_type"]
    rows = table[numbers + codes].assign(minutes=minutes.clip(0, 180), hour=hour)
    return _history("taxi", rows, table["pickup_datetime"], (*codes, "hour"))


def weeks(history: History, start: pd.Timestamp, days: int = 7) -> Iterator[pd.DataFrame]:
    """The rows of one window after another from some moment on, whole windows only."""
    step, last = pd.Timedelta(days=days), history.rows["at"].iloc[-1]
    while start + step <= last:
        yield history.between(start, start + step)
        start += step


def _history(name: str, rows: pd.DataFrame, at: Any, codes: tuple[str, ...]) -> History:
    table = rows.astype(np.float32).assign(at=pd.to_datetime(np.asarray(at), utc=True))
    return History(name, table.sort_values("at", kind="stable", ignore_index=True), codes)


HISTORIES: dict[str, Callable[[Path], History]] = {"bikes": bikes, "flights": flights, "taxi": taxi}
