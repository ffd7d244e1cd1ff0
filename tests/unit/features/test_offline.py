"""The offline log holds each entry exactly once, also after a crash in the middle of a write."""

from pathlib import Path

import numpy as np
import pandas as pd

from features.offline import OfflineLog, stamp

HOUR_US = 3_600_000_000


def rows(*numbers: int) -> pd.DataFrame:
    us = [number * 30 * HOUR_US for number in numbers]  # every other row on the next day
    return pd.DataFrame(
        {
            "id": [f"e{number}" for number in numbers],
            "at": stamp(us),
            "known_at": stamp(us),
            "position": np.array(numbers, dtype=np.int64),
            "row": np.zeros(len(numbers), dtype=np.int32),
            "amount": np.array(numbers, dtype=np.float64),
        }
    )


def test_an_unfinished_write_is_not_read_and_is_replaced(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log", 10, {"events/sales": rows(1, 2)})
    recorded = (tmp_path / "_flushed.json").read_bytes()
    log.write("log", 20, {"events/sales": rows(3, 4)})
    (tmp_path / "_flushed.json").write_bytes(recorded)  # as if killed before the position was recorded
    assert list(log.events("sales")["id"]) == ["e1", "e2"]
    log.write("log", 30, {"events/sales": rows(3, 4, 5)})
    assert list(log.events("sales")["id"]) == ["e1", "e2", "e3", "e4", "e5"]


def test_an_event_id_counts_once_a_day(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log", 10, {"events/sales": pd.concat([rows(1), rows(1).assign(position=5, amount=9.0)])})
    assert log.events("sales")["amount"].tolist() == [1.0]


def test_events_are_cut_by_the_moment_they_became_known(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log", 10, {"events/sales": rows(1, 2, 3)})
    since, until = (stamp([n * 30 * HOUR_US])[0].to_pydatetime() for n in (2, 3))
    assert list(log.events("sales", since=since, until=until)["id"]) == ["e2"]


def test_an_empty_log_is_empty(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    assert log.events("sales").empty
    assert log.predictions("sample").empty
    assert log.labels("sample").empty
