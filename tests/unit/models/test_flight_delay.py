from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.discovery import load_use_case
from core.use_case import History, UseCase
from features.definitions import BatchView, DerivedView, ParquetTable, RequestView, feature_set
from features.tables import TableAccess

ROOT = Path(__file__).parents[3]
DATA = ROOT / "data"


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return load_use_case(ROOT / "models" / "flight_delay.py").use_case


@pytest.fixture(scope="module")
def past(use_case: UseCase) -> History:
    return use_case.history(DATA)


def test_every_scheduled_flight_is_asked_about_and_every_landed_one_labelled(past: History) -> None:
    assert len(past.requests) == 336_776
    assert len(past.labels) == len(past.events["flight_arrivals"]) == 327_346
    assert len(past.events["flight_departures"]) == 328_521
    assert past.labels["label"].mean() == pytest.approx(0.237, abs=0.001)


def test_cancelled_and_diverted_flights_never_get_a_label(past: History) -> None:
    left, landed = (set(past.events[name]["id"]) for name in ("flight_departures", "flight_arrivals"))
    assert landed == set(past.labels["key"])
    assert landed < left < set(past.requests["key"])
    unassigned = past.requests.loc[past.requests["tailnum"].isna(), "key"]
    assert len(unassigned) == 2512
    assert not left & set(unassigned)


@pytest.mark.parametrize(
    ("key", "flight", "asked", "landed"),
    [  # by hand from the data: scheduled and actual times on the clocks of both airports
        ("flight-000000", "UA 1545 EWR-IAH, winter, 5:15 to 8:30 Central", "01-01 10:15", "01-01 14:30"),
        ("flight-228962", "HA 51 JFK-HNL, summer, 10:00 to 13:52 Hawaii", "06-08 14:00", "06-08 23:52"),
        ("flight-254033", "B6 135 JFK-PHX, summer, 20:30 to 22:19 Arizona", "07-05 00:30", "07-05 05:19"),
        ("flight-000178", "AA 655 JFK-STT, winter, 8:10 to 13:31 Atlantic", "01-01 13:10", "01-01 17:31"),
    ],
)
def test_moments_are_those_on_the_clocks_of_both_airports(
    past: History, key: str, flight: str, asked: str, landed: str
) -> None:
    labelled = past.labels.set_index("key")["at"]
    request = past.requests.set_index("key").loc[key]
    assert request["at"] == pd.Timestamp(f"2013-{asked}", tz="UTC"), flight
    assert labelled[key] == pd.Timestamp(f"2013-{landed}", tz="UTC"), flight


@pytest.mark.slow
def test_no_question_is_answered_by_its_own_movements(past: History) -> None:
    asked = past.requests.set_index("key")["at"]
    for events in past.events.values():
        own = asked.reindex(events["id"]).to_numpy()
        assert (events["at"].to_numpy() > own).all()


def test_events_say_late_from_the_sixteenth_minute_on(past: History) -> None:
    left, landed = past.events["flight_departures"], past.events["flight_arrivals"]
    assert ((left["dep_delay"] > 15) == (left["left_late"] == 1)).all()
    assert ((landed["arr_delay"] > 15) == (landed["late"] == 1)).all()
    assert landed["scheduled_min"].between(20, 720).all()


def test_the_same_data_gives_the_same_history(use_case: UseCase, past: History) -> None:
    again = use_case.history(DATA)
    pd.testing.assert_frame_equal(past.requests, again.requests)
    pd.testing.assert_frame_equal(past.labels, again.labels)
    for name, events in past.events.items():
        pd.testing.assert_frame_equal(events, again.events[name])


def test_the_weekday_is_new_yorks_in_winter_and_summer(use_case: UseCase, past: History) -> None:
    computed = _view(use_case, "schedule", RequestView).compute(_columns(use_case, past.requests))
    local = past.requests["at"].dt.tz_convert("America/New_York")
    np.testing.assert_array_equal(computed["weekday"], local.dt.weekday)
    np.testing.assert_array_equal(computed["departs_min"], local.dt.hour * 60 + local.dt.minute)


def test_codes_tell_all_carriers_apart_and_mark_unknown_ones(use_case: UseCase, past: History) -> None:
    schedule = _view(use_case, "schedule", RequestView)
    computed = schedule.compute(_columns(use_case, past.requests))
    assert len(set(zip(computed["carrier_code"], past.requests["carrier"], strict=True))) == 16
    assert len(set(zip(computed["origin_code"], past.requests["origin"], strict=True))) == 3
    assert min(computed["carrier_code"].min(), computed["origin_code"].min()) == 0
    stranger = past.requests.head(1).assign(carrier="ZZ", origin="BOS")
    computed = schedule.compute(_columns(use_case, stranger))
    assert (computed["carrier_code"][0], computed["origin_code"][0]) == (-1, -1)


def test_a_broken_anemometer_counts_as_no_reading(use_case: UseCase) -> None:
    view = _view(use_case, "weather", BatchView)
    assert isinstance(view.source, ParquetTable) and view.compute is not None
    rows = view.source.read(TableAccess(DATA))
    readings = view.compute(rows, datetime(2014, 1, 1, tzinfo=UTC))
    assert rows["wind_speed"].max() > 1000
    assert readings["wind_speed"].max() < 60
    assert readings["wind_speed"].isna().sum() == rows["wind_speed"].isna().sum() + 1
    assert set(view.outputs) <= set(readings.columns)


def test_a_reading_is_known_when_its_hour_is_over(use_case: UseCase) -> None:
    source = _view(use_case, "weather", BatchView).source
    assert isinstance(source, ParquetTable)
    assert (source.at, source.known_after) == ("time_hour", timedelta(hours=1))


def test_an_unregistered_aircraft_has_no_age(use_case: UseCase) -> None:
    view = _view(use_case, "comparisons", DerivedView)
    columns: dict[str, Any] = {name: np.zeros(2) for name in view.inputs}
    columns |= {"at": np.full(2, 1_370_000_000_000_000), "plane_built": np.array([0.0, 1998.0])}
    assert view.compute(columns)["aircraft_age_years"].tolist() == [-1, 15]


def _view(use_case: UseCase, name: str, kind: type[Any]) -> Any:
    (view,) = (v for v in feature_set(use_case).views if v.name == name and isinstance(v, kind))
    return view


def _columns(use_case: UseCase, requests: pd.DataFrame) -> dict[str, Any]:
    columns: dict[str, Any] = {f.name: requests[f.name].to_numpy() for f in use_case.request_fields}
    return columns | {"at": requests["at"].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)}
