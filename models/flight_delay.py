"""Will this flight out of New York arrive more than 15 minutes late?

Asked at the scheduled departure; the label is known when the flight arrives. Moments are true UTC. The data
(data/nycflights13, CC0) gives schedules in New York's and the destination's local time, and delays in minutes: a
flight arrives at scheduled departure + scheduled duration + arrival delay. Cancelled and diverted flights are asked
about, for nobody knows at that moment, but never get a label.

A departure counts as known a minute after it, and not before its scheduled time: no question is answered by its own
flight having left early.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.model_tests import Direction, Minimum, Slice
from core.use_case import Classifier, DataCheck, EventSource, Field, History, Label, Policy, ReplaySpan, UseCase
from features.definitions import (
    Aggregate,
    BatchView,
    Columns,
    DerivedView,
    FeatureSet,
    ParquetTable,
    RequestView,
    WindowView,
)

LATE_MIN = 15
DEPARTURE_KNOWN_AFTER = timedelta(minutes=1)
EASTERN_STANDARD_US = 5 * 3_600_000_000
ORIGINS = ("EWR", "JFK", "LGA")
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")

origin = Field(name="origin", dtype="str", example="EWR", description="airport of departure, FAA code")
carrier = Field(name="carrier", dtype="str", example="UA", description="airline, two-letter code")
tailnum = Field(
    name="tailnum", dtype="str", nullable=True, example="N14228", description="aircraft; null while none is assigned"
)
dest = Field(name="dest", dtype="str", example="IAH", description="airport of arrival, FAA code")

request = (
    Field(
        name="departs_min", dtype="int", ge=0, le=1439, example=315, description="schedule, minutes of the local day"
    ),
    Field(name="arrives_min", dtype="int", ge=0, le=1440, example=499, description="schedule, minutes of dest's day"),
    Field(name="scheduled_min", dtype="int", ge=1, le=1439, example=244, description="minutes gate to gate"),
    Field(name="distance_mi", dtype="int", ge=1, le=6000, example=1400, description="miles"),
)

departures = EventSource(
    name="flight_departures",
    description="One event per flight that left its gate.",
    fields=(
        origin,
        carrier,
        tailnum,
        Field(name="dep_delay", dtype="float", description="minutes, below 0 if early"),
        Field(name="left_late", dtype="int", ge=0, le=1, description="1 if more than 15 minutes late"),
    ),
)

arrivals = EventSource(
    name="flight_arrivals",
    description="One event per flight that reached its destination.",
    fields=(
        origin,
        carrier,
        tailnum,
        dest,
        Field(name="arr_delay", dtype="float", description="minutes, below 0 if early"),
        Field(name="late", dtype="int", ge=0, le=1, description="1 if more than 15 minutes late"),
        Field(name="scheduled_min", dtype="float", ge=1, description="minutes gate to gate"),
    ),
)


def schedule_features(c: Columns) -> Columns:
    """The flight as it stands in the timetable."""
    return {
        "departs_min": c["departs_min"],
        "arrives_min": c["arrives_min"],
        # no flight is scheduled between midnight and one in summer, so standard time gives the local date all year
        "weekday": ((c["at"] - EASTERN_STANDARD_US) // 86_400_000_000 + 3) % 7,
        "scheduled_min": c["scheduled_min"],
        "distance_mi": c["distance_mi"],
        "miles_per_hour": c["distance_mi"] / c["scheduled_min"] * 60,
        "origin_code": _codes(c["origin"], ORIGINS),
        "carrier_code": _codes(c["carrier"], CARRIERS),
    }


def _codes(values: npt.NDArray[Any], known: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Places in `known`; -1 for what is not there."""
    place = {value: i for i, value in enumerate(known)}
    return np.array([place.get(value, -1) for value in values], dtype=np.int64)


def comparisons(c: Columns) -> Columns:
    """What the stored values say about each other."""
    built = c["plane_built"]
    year = 1970 + c["at"] // 31_556_952_000_000
    return {
        "aircraft_age_years": np.where(built > 0, year - built, -1),  # -1: not in the registry
        "origin_delay_trend": c["origin_now_delay_1h"] - c["origin_now_delay_4h"],
        "carrier_delay_here": c["carrier_here_delay_4h"] - c["origin_now_delay_4h"],
        "carrier_late_trend": c["carrier_late_6h"] - c["carrier_late_7d"],
    }


def weather_of(rows: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """The readings; a wind above 150 mph (there is one, of 1,048) is a broken instrument."""
    return rows.assign(wind_speed=rows["wind_speed"].where(rows["wind_speed"] <= 150))


late_share = Aggregate(name="late", kind="ratio", field="late", default=0.24)
arrival_delay = Aggregate(name="delay", kind="mean", field="arr_delay", default=7.0)
departure_delay = Aggregate(name="delay", kind="mean", field="dep_delay", default=12.0)
flights = Aggregate(name="flights", kind="count")

views = (
    RequestView(
        name="schedule",
        inputs=("at", "origin", "carrier", *(f.name for f in request)),
        outputs=(
            "departs_min", "arrives_min", "weekday", "scheduled_min", "distance_mi", "miles_per_hour", "origin_code",
            "carrier_code",
        ),
        compute=schedule_features,
    ),
    WindowView(
        name="origin_now", entity="origin", source="flight_departures", tile=timedelta(minutes=15),
        windows=(timedelta(hours=1), timedelta(hours=4)),
        aggregates=(
            flights, departure_delay,
            Aggregate(name="worst", kind="max", field="dep_delay"),
            Aggregate(name="left_late", kind="ratio", field="left_late", default=0.2),
        ),
    ),
    WindowView(
        name="origin_day", entity="origin", source="flight_departures", tile=timedelta(hours=1),
        windows=(timedelta(hours=24),),
        aggregates=(flights, Aggregate(name="aircraft", kind="distinct", field="tailnum")),
    ),
    WindowView(
        name="carrier_here", entity=("origin", "carrier"), source="flight_departures", tile=timedelta(minutes=30),
        windows=(timedelta(hours=4), timedelta(hours=24)),
        aggregates=(flights, departure_delay, Aggregate(name="last", kind="last", field="dep_delay")),
    ),
    WindowView(
        name="carrier", entity="carrier", source="flight_arrivals", tile=timedelta(hours=1),
        windows=(timedelta(hours=6), timedelta(days=7)),
        aggregates=(
            late_share, arrival_delay,
            Aggregate(name="per_scheduled", kind="ratio", field="arr_delay", over="scheduled_min", default=0.04),
        ),
    ),
    WindowView(
        name="dest", entity="dest", source="flight_arrivals", tile=timedelta(hours=1),
        windows=(timedelta(hours=6), timedelta(days=7)),
        aggregates=(flights, late_share, arrival_delay),
    ),
    WindowView(
        name="aircraft_out", entity="tailnum", source="flight_departures", tile=timedelta(hours=1),
        windows=(timedelta(hours=12),),
        aggregates=(flights, Aggregate(name="last", kind="last", field="dep_delay")),
    ),
    WindowView(
        name="aircraft", entity="tailnum", source="flight_arrivals", tile=timedelta(hours=1),
        windows=(timedelta(hours=24), timedelta(days=7)),
        aggregates=(
            flights, late_share,
            Aggregate(name="last", kind="last", field="arr_delay"),
            Aggregate(name="worst", kind="max", field="arr_delay"),
        ),
    ),
    BatchView(
        name="weather", entity="origin",
        source=ParquetTable(
            path="nycflights13/weather.parquet", at="time_hour",
            known_after=timedelta(hours=1),  # the first reading taken within the hour, so known when it is over
        ),
        outputs=("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"),
        defaults=(55.0, 42.0, 62.0, 10.0, 0.0, 1018.0, 10.0), compute=weather_of,
        ttl=timedelta(hours=8),  # yesterday's weather predicts worse than none; this bears a refresh every six hours
    ),
    BatchView(
        name="plane", entity="tailnum",
        source=ParquetTable(path="nycflights13/planes.parquet", at=None, rename={"year": "built"}),
        outputs=("built", "engines", "seats"), defaults=(0.0, 0.0, 0.0), ttl=timedelta(days=3650),
    ),
    DerivedView(
        name="comparisons",
        inputs=(
            "at", "plane_built", "origin_now_delay_1h", "origin_now_delay_4h", "carrier_here_delay_4h",
            "carrier_late_6h", "carrier_late_7d",
        ),
        outputs=("aircraft_age_years", "origin_delay_trend", "carrier_delay_here", "carrier_late_trend"),
        compute=comparisons,
    ),
)  # fmt: skip


def estimator(columns: tuple[str, ...]) -> Classifier:
    """Gradient-boosted trees; deterministic."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model: Classifier = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=80, l2_regularization=5.0, random_state=7
    )
    return model


def history(data_dir: Path) -> History:
    """Scheduled flights as questions, arrivals as labels, both movements as events."""
    table = _as_table(data_dir / "nycflights13")
    dropped: dict[str, int] = {}
    for check in checks:
        keep = np.asarray(check.keep(table), dtype=bool)
        dropped[check.name] = int((~keep).sum())
        table = table[keep]
    left, landed = table.dropna(subset="dep_delay"), table.dropna(subset="arr_delay")
    left = left.assign(at=left["left_at"].where(left["left_at"] > left["at"], left["at"]) + DEPARTURE_KNOWN_AFTER)
    landed = landed.assign(at=landed["landed_at"])
    fields = [f.name for f in (origin, carrier, tailnum, dest, *request)]
    return History(
        requests=_sorted(table)[["key", "at", *fields]],
        labels=_sorted(landed).rename(columns={"late": "label"})[["key", "label", "at"]],
        events={source.name: _events(source, moved) for source, moved in ((departures, left), (arrivals, landed))},
        dropped=dropped,
    )


def _events(source: EventSource, flights: pd.DataFrame) -> pd.DataFrame:
    frame = _sorted(flights).rename(columns={"key": "id"})
    return frame[["id", "at", *(f.name for f in source.fields)]].astype(
        {f.name: "float64" for f in source.fields if f.dtype == "float"}
    )


def _sorted(flights: pd.DataFrame) -> pd.DataFrame:
    return flights.sort_values("at", kind="stable", ignore_index=True)  # ties keep the order of the data


def _as_table(folder: Path) -> pd.DataFrame:
    """One row per scheduled flight; `left_at` and `landed_at` are null where it did not."""
    raw = pd.read_parquet(folder / "flights.parquet")
    zones = pd.read_parquet(folder / "airports.parquet").set_index("faa")["tzone"]
    names = {
        name: raw[name].astype(object).where(raw[name].notna(), None)
        for name in ("origin", "carrier", "tailnum", "dest")
    }
    departs, arrives = (raw[f"sched_{end}_time"].astype("int64") for end in ("dep", "arr"))
    departs, arrives = departs // 100 * 60 + departs % 100, arrives // 100 * 60 + arrives % 100
    days = pd.to_datetime(raw[["month", "day"]].assign(year=2013)) + pd.to_timedelta(departs, unit="min")
    at = days.dt.tz_localize("America/New_York").dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    # the four destinations that the table of airports lacks are in Puerto Rico and the Virgin Islands
    duration = _minutes_until(arrives, at, names["dest"].map(zones).fillna("America/Puerto_Rico"))
    dep_delay, arr_delay = raw["dep_delay"].astype("float64"), raw["arr_delay"].astype("float64")
    return pd.DataFrame(
        {
            "key": np.char.add("flight-", np.char.zfill(raw.index.to_numpy().astype("U6"), 6)).astype(object),
            "at": at, **names, "departs_min": departs, "arrives_min": arrives, "scheduled_min": duration,
            "distance_mi": raw["distance"].astype("int64"), "dep_delay": dep_delay, "arr_delay": arr_delay,
            "left_at": at + _minutes(dep_delay),
            "landed_at": at + _minutes(duration + arr_delay),
            "left_late": (dep_delay > LATE_MIN).astype("int64"), "late": (arr_delay > LATE_MIN).astype("int64"),
        }
    )  # fmt: skip


def _minutes(values: "pd.Series[float]") -> "pd.Series[pd.Timedelta]":
    """As spans of time, null where they are; pandas computes with whatever lies in memory where a value is missing."""
    known = values.notna()
    spans = (values.where(known, 0.0) * 60_000_000).astype("int64").astype("timedelta64[us]")
    return spans.where(known)


def _minutes_until(
    clock_min: "pd.Series[int]", at: "pd.Series[pd.Timestamp]", zones: "pd.Series[str]"
) -> "pd.Series[int]":
    """Minutes from `at` until a clock of that zone next shows `clock_min`."""
    minutes = pd.Series(0, index=at.index, dtype="int64")
    for zone in zones.unique():
        here = zones == zone
        local = at[here].dt.tz_convert(zone)
        minutes[here] = (clock_min[here] - local.dt.hour * 60 - local.dt.minute) % 1440
    return minutes


checks = (
    DataCheck(
        name="scheduled for under 20 minutes or over 12 hours", keep=lambda f: f["scheduled_min"].between(20, 720)
    ),
)

flight_delay = UseCase(
    name="flight_delay",
    description="Will this flight out of New York arrive more than 15 minutes late?",
    entities=(origin, carrier, tailnum, dest),
    request=request,
    sources=(departures, arrivals),
    features=FeatureSet(views),
    label=Label(
        name="arrives_late",
        description="arrival more than 15 minutes after the schedule",
        horizon=timedelta(hours=36),  # the longest flight with its longest delay took 33 hours
        known_only_after=("dep_delay", "arr_delay", "dep_time", "arr_time", "air_time", "left_late", "late"),
    ),
    estimator=estimator,
    history=history,
    checks=checks,
    policy=Policy(
        training_window=timedelta(days=60),
        holdout_rows=6000,
        min_rows=15_000,
        monitor_window=timedelta(days=7),
        monitor_every=timedelta(days=7),
        materialize_every=timedelta(days=1),
        min_monitor_rows=2000,
        performance_drop=0.15,
        retrain_every=timedelta(days=14),
        cooldown=timedelta(days=5),
        segments=("origin",),
    ),
    # A calm autumn to learn from, then Thanksgiving, winter storms and Christmas. Days begin with the first departures
    # (9:00 UTC), so that the daily refresh of the weather serves the mornings.
    replay=ReplaySpan(
        start=datetime(2013, 9, 15, 9, tzinfo=UTC),
        first_training=datetime(2013, 10, 15, 9, tzinfo=UTC),
        end=datetime(2013, 12, 30, 9, tzinfo=UTC),
        tick=timedelta(hours=1),
    ),
    categorical=("weekday", "origin_code", "carrier_code"),
    tests=(
        Minimum(metric="auc", value=0.6),
        Direction(field="dest_delay_6h", by=15.0, expect="up"),
        Direction(field="carrier_delay_6h", by=15.0, expect="up"),
        Slice(by="origin", max_loss_ratio=1.25),
    ),
)
