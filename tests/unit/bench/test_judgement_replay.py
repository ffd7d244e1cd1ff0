from __future__ import annotations

import pandas as pd

from bench.judgement_replay import DayOrder, shuffled_days
from core.use_case import History
from tests.replayed_use_case import A_DAY, DAY, START, history

PAST = history(days=28)


def test_days_change_places_and_nothing_else_does() -> None:
    found = shuffled_days(PAST)

    before, after = (past.requests.set_index("key")["at"] for past in (PAST, found))
    moved = after.reindex(before.index) - before
    assert (moved % DAY == pd.Timedelta(0)).all()
    assert (moved != pd.Timedelta(0)).mean() > 0.5
    assert (after.dt.dayofweek == before.reindex(after.index).dt.dayofweek).all()
    assert after.is_monotonic_increasing
    assert after.min() >= pd.Timestamp(START)
    assert after.max() < pd.Timestamp(START + 28 * DAY)
    assert sorted(found.requests["key"]) == sorted(PAST.requests["key"])


def test_labels_and_events_go_with_their_question() -> None:
    found = shuffled_days(PAST)

    asked = found.requests.set_index("key")["at"]
    assert (found.labels["at"] - found.labels["key"].map(asked) == pd.Timedelta(minutes=30)).all()
    sales = found.events["sales"]
    assert (sales["at"] - sales["id"].map(asked) == pd.Timedelta(minutes=30)).all()
    assert sales["at"].is_monotonic_increasing


def test_events_of_no_question_go_with_their_own_day() -> None:
    events = PAST.events["sales"].assign(id=lambda frame: "other-" + frame["id"])

    found = shuffled_days(History(PAST.requests, PAST.labels, {"sales": events}))

    moved = found.events["sales"].set_index("id")["at"] - events.set_index("id")["at"].reindex(
        found.events["sales"]["id"]
    )
    assert (moved % DAY == pd.Timedelta(0)).all()
    assert len(moved) == 28 * A_DAY


def test_tables_that_features_are_read_from_change_places_likewise() -> None:
    order = DayOrder.of(PAST)
    asked = PAST.requests[["key", "at"]]
    readings = asked.assign(at=asked["at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    outside = asked.tail(1).assign(at=pd.Timestamp("2001-01-01", tz="UTC"))

    moved = order.moved(readings).set_index("key")["at"]

    assert (moved == shuffled_days(PAST, order).requests.set_index("key")["at"].reindex(moved.index)).all()
    assert order.moved(outside)["at"].tolist() == outside["at"].tolist()
