"""When events came, read off the log day by day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import from_us
from features.offline.event_times import longest_pause_s, newest_event_at, pause_within
from features.offline.log import OfflineLog

START = datetime(2019, 2, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KNOWN = [1, 2, 5, 30, 31, 100]


@pytest.fixture
def log(tmp_path: Path) -> OfflineLog:
    log = OfflineLog(tmp_path)
    moments = pd.Series([pd.Timestamp(START + hour * HOUR) for hour in KNOWN])
    events = pd.DataFrame({"id": [f"e{i}" for i in KNOWN], "at": moments - HOUR / 2, "known_at": moments})
    log.write("log-0", len(KNOWN), {"events/trips": events.assign(position=range(1, len(KNOWN) + 1), fare=1.0)})
    return log


@pytest.mark.parametrize(("hour", "newest"), [(200, 100), (100, 100), (99.9, 31), (30.5, 30), (20, 5), (1, 1)])
def test_the_newest_event_is_the_newest_of_those_known_then(log: OfflineLog, hour: float, newest: int) -> None:
    assert newest_event_at(log, "trips", known_by=START + hour * HOUR) == START + newest * HOUR


def test_a_source_without_events_has_no_newest(log: OfflineLog) -> None:
    assert newest_event_at(log, "trips", known_by=START) is None
    assert newest_event_at(log, "fares", known_by=START + 200 * HOUR) is None


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [(0, 200, 100), (0, 100, 69), (0, 30, 25), (2, 5.1, 3), (5, 31, 25), (6, 30, None), (31, 200, 100)],
)
def test_the_longest_pause_spans_days(log: OfflineLog, since: float, until: float, hours: float | None) -> None:
    found = longest_pause_s(log, "trips", START + since * HOUR, START + until * HOUR)

    assert found == (None if hours is None else hours * 3600)


@given(st.lists(st.integers(0, 10**9), max_size=30).map(sorted), st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_pauses_do_not_depend_on_the_parts_they_are_read_in(moments: list[int], cuts: list[int]) -> None:
    parts = np.split(np.array(moments, dtype=np.int64), [cut for cut in cuts if cut <= len(moments)])

    since, until = from_us(-5), from_us(10**9 + 5)
    expected = max(np.diff([-5, *moments, 10**9 + 5])) / 1e6 if moments else None
    assert pause_within(since, until, parts) == expected


def test_events_that_came_at_once_had_a_pause_before() -> None:
    at_once = np.full(9, 10**9, dtype=np.int64)

    assert pause_within(from_us(0), from_us(10**9 + 1), [at_once]) == 1000.0
