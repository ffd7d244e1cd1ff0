"""Will a card-paying taxi passenger tip at least a quarter of the fare?

Asked at drop-off, before the payment; the label arrives with the payment. The data set has no payment time:
the payment is taken to be three minutes after drop-off. Times are New York local times, read as UTC, so that
hours of the day mean what they say.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.model_tests import Direction, Invariance, Minimum, Slice
from core.use_case import Classifier, DataCheck, EventSource, Field, History, Label, Policy, ReplaySpan, UseCase
from features.definitions import Aggregate, BatchView, Columns, FeatureSet, RequestView, WindowView

PAYMENT_DELAY = timedelta(minutes=3)
GENEROUS_SHARE = 0.25
MAX_FARE_USD, MAX_DISTANCE_MI, MAX_DURATION_MIN = 500.0, 100.0, 180.0

pickup_zone = Field(name="pickup_zone", dtype="int", ge=1, le=265, example=161, description="TLC zone of the pick-up")
dropoff_zone = Field(
    name="dropoff_zone", dtype="int", ge=1, le=265, example=236, description="TLC zone of the drop-off"
)

request = (
    Field(name="trip_distance", dtype="float", ge=0, example=1.8, description="miles by the taximeter"),
    Field(name="duration_min", dtype="float", ge=0, example=11.5, description="minutes from pick-up to drop-off"),
    Field(name="fare_amount", dtype="float", ge=0, example=9.5, description="USD, time and distance fare"),
    Field(name="extra", dtype="float", example=0.5, description="USD, rush-hour and overnight extras"),
    Field(name="tolls_amount", dtype="float", example=0.0, description="USD"),
    Field(name="congestion_surcharge", dtype="float", nullable=True, example=2.5, description="USD, since 2019"),
    Field(name="passenger_count", dtype="float", nullable=True, ge=0, le=9, example=1, description="by the driver"),
    Field(name="vendor_id", dtype="float", nullable=True, ge=1, le=6, example=2, description="terminal provider"),
    Field(name="rate_code_id", dtype="float", nullable=True, ge=1, le=99, example=1, description="1 standard, 2 JFK"),
)

payments = EventSource(
    name="taxi_payments",
    description="One event per finished trip, at its payment; cash trips have no tip share.",
    fields=(
        pickup_zone,
        dropoff_zone,
        Field(name="fare_amount", dtype="float", description="USD"),
        Field(name="trip_distance", dtype="float", description="miles"),
        Field(name="card", dtype="int", ge=0, le=1, description="1 if paid by card"),
        Field(name="tip_share", dtype="float", nullable=True, description="tip over fare, at most 1"),
    ),
)


def trip_features(c: Columns) -> Columns:
    """Calendar and price of the trip."""
    seconds = c["at"] // 1_000_000
    hour = seconds % 86_400 / 3_600
    fare, miles, minutes = c["fare_amount"], c["trip_distance"], c["duration_min"]
    return {
        "hour_sin": np.sin(hour * np.pi / 12),
        "hour_cos": np.cos(hour * np.pi / 12),
        "weekday": (seconds // 86_400 + 3) % 7,
        "fare_per_mile": fare / np.maximum(miles, 0.1),
        "miles_per_hour": miles / np.maximum(minutes / 60, 1 / 60),
        "is_whole_dollar_fare": (np.abs(fare - np.round(fare)) < 1e-6).astype(np.float64),
        **{name: c[name] for name in _PASSED_ON},
        "congestion_surcharge": np.nan_to_num(c["congestion_surcharge"]),  # null means: not introduced yet
    }


_PASSED_ON = (
    "trip_distance",
    "duration_min",
    "fare_amount",
    "extra",
    "tolls_amount",
    "congestion_surcharge",
    "passenger_count",
    "vendor_id",
    "rate_code_id",
)


def zone_profile(zone: str) -> Any:
    """A batch computation: what trips at a zone were like over the look-back."""

    def compute(events: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
        groups = events.groupby(zone)
        tips = groups["tip_share"].mean().fillna(events["tip_share"].mean())
        return pd.DataFrame(
            {
                "fare": groups["fare_amount"].mean(),
                "distance": groups["trip_distance"].mean(),
                "card_share": groups["card"].mean(),
                "tip_share": tips,
                "trips": groups.size(),
            }
        )[groups.size() >= 5]

    return compute


def zone_views(name: str, zone: str) -> tuple[WindowView | BatchView, ...]:
    """The stored features of one end of the trip."""
    tips = Aggregate(name="tip_share", kind="mean", field="tip_share", default=0.2)
    trips = Aggregate(name="trips", kind="count")
    return (
        WindowView(
            name=f"{name}_hours", entity=zone, source="taxi_payments", tile=timedelta(hours=1),
            windows=(timedelta(hours=6), timedelta(hours=24)), aggregates=(trips, tips), lateness=timedelta(hours=6),
        ),
        WindowView(
            name=f"{name}_days", entity=zone, source="taxi_payments", tile=timedelta(days=1),
            windows=(timedelta(days=7), timedelta(days=28)),
            aggregates=(trips, tips, Aggregate(name="fare", kind="mean", field="fare_amount", default=13.0)),
            lateness=timedelta(days=1),
        ),
        BatchView(
            name=f"{name}_profile", entity=zone, source="taxi_payments", lookback=timedelta(days=56),
            outputs=("fare", "distance", "card_share", "tip_share", "trips"), defaults=(13.0, 2.9, 0.7, 0.2, 0.0),
            ttl=timedelta(days=45), compute=zone_profile(zone),
        ),
    )  # fmt: skip


def estimator(columns: tuple[str, ...]) -> Classifier:
    """Gradient-boosted trees; deterministic."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model: Classifier = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.08, max_leaf_nodes=15, min_samples_leaf=40, l2_regularization=1.0, random_state=7
    )
    return model


def history(data_dir: Path) -> History:
    """Trips as questions, payments as labels and events."""
    trips = pd.read_parquet(data_dir / "nyc_taxi" / "yellow_trips_sample.parquet")
    dropped: dict[str, int] = {}
    in_month = trips["pickup_datetime"].dt.strftime("%Y-%m") == trips["file_month"].astype(str)
    dropped["pick-up outside its month"] = int((~in_month).sum())
    table = _as_table(trips[in_month])
    for check in checks:
        keep = np.asarray(check.keep(table), dtype=bool)
        dropped[check.name] = int((~keep).sum())
        table = table[keep]
    table = table.sort_values(["at", "key"], kind="stable").reset_index(drop=True)
    paid_at = table["at"] + PAYMENT_DELAY
    asked = table["card"] == 1
    fields = [f.name for f in (pickup_zone, dropoff_zone, *request)]
    labels = pd.DataFrame({"key": table["key"], "label": table["label"], "at": paid_at})[asked]
    events = table[[f.name for f in payments.fields]].assign(id=table["key"], at=paid_at)
    return History(
        requests=table.loc[asked, ["key", "at", *fields]].reset_index(drop=True),
        labels=labels.reset_index(drop=True),
        events={payments.name: events},
        dropped=dropped,
    )


def _as_table(trips: pd.DataFrame) -> pd.DataFrame:
    minutes = (trips["dropoff_datetime"] - trips["pickup_datetime"]).dt.total_seconds() / 60
    card = trips["payment_type"] == 1
    fare = trips["fare_amount"].where(trips["fare_amount"] > 0)
    share = (trips["tip_amount"] / fare).clip(0, 1).where(card)
    table = pd.DataFrame(
        {
            "key": [f"trip-{i:06d}" for i in trips.index],
            "at": trips["dropoff_datetime"].dt.tz_localize("UTC").astype("datetime64[us, UTC]"),
            "pickup_zone": trips["pickup_location_id"].astype("int64"),
            "dropoff_zone": trips["dropoff_location_id"].astype("int64"),
            "duration_min": minutes,
            "card": card.astype("int64"),
            "tip_share": share,
            "label": (trips["tip_amount"] >= GENEROUS_SHARE * trips["fare_amount"]).astype("int64"),
        }
    )
    names = [f.name for f in request if f.name not in table]
    return table.join(trips[names].astype("float64"))


checks = (
    DataCheck(name="fare not above 0 or over 500 USD", keep=lambda f: f["fare_amount"].between(0.01, MAX_FARE_USD)),
    DataCheck(name="distance not above 0 or over 100 miles", keep=lambda f: f["trip_distance"].between(0.01, 100)),
    DataCheck(name="duration not above 0 or over 3 hours", keep=lambda f: f["duration_min"].between(0.01, 180)),
)

taxi_tip = UseCase(
    name="taxi_tip",
    description="Will this card-paying passenger tip at least 25 % of the fare?",
    entities=(pickup_zone, dropoff_zone),
    request=request,
    sources=(payments,),
    features=FeatureSet(
        (
            RequestView(
                name="trip",
                inputs=("at", *_PASSED_ON),
                outputs=(
                    "hour_sin", "hour_cos", "weekday", "fare_per_mile", "miles_per_hour", "is_whole_dollar_fare",
                    *_PASSED_ON,
                ),
                compute=trip_features,
            ),
            *zone_views("pickup", "pickup_zone"),
            *zone_views("dropoff", "dropoff_zone"),
        )
    ),
    label=Label(
        name="generous_tip",
        description="tip of at least 25 % of the fare",
        horizon=timedelta(hours=1),
        known_only_after=("tip_amount", "total_amount", "tip_share", "payment_type"),
    ),
    estimator=estimator,
    history=history,
    checks=checks,
    policy=Policy(
        training_window=timedelta(days=60),
        holdout_rows=800,
        min_rows=4000,
        monitor_window=timedelta(days=7),
        monitor_every=timedelta(days=7),
        min_monitor_rows=500,
        performance_drop=0.1,
        retrain_every=timedelta(days=30),
        cooldown=timedelta(days=5),
        segments=("vendor_id", "rate_code_id"),
    ),
    replay=ReplaySpan(
        start=datetime(2018, 1, 1, tzinfo=UTC),
        first_training=datetime(2018, 3, 1, tzinfo=UTC),
        end=datetime(2019, 7, 1, tzinfo=UTC),
        compare_from=datetime(2019, 2, 2, tzinfo=UTC),  # the congestion surcharge begins
    ),
    categorical=("weekday", "is_whole_dollar_fare", "vendor_id", "rate_code_id"),
    tests=(
        Minimum(metric="auc", value=0.6),
        Invariance(field="passenger_count", values=(1, 2, 5), max_change=0.05),
        Direction(field="tolls_amount", by=5.76, expect="up"),  # the terminal suggests tips on the total
        Direction(field="fare_amount", by=5.0, expect="down"),
        Slice(by="vendor_id", max_loss_ratio=1.2),
    ),
)  # fmt: skip
