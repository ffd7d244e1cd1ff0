"""The offline log holds each entry exactly once, also after a crash in the middle of a write or of a compaction."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from features.offline import compaction, schemas
from features.offline.log import OfflineLog, stamp

HOUR_US = 3_600_000_000
FAR = datetime(2100, 1, 1, tzinfo=UTC)


def rows(*numbers: int, **columns: Any) -> pd.DataFrame:
    us = [number * 30 * HOUR_US for number in numbers]  # every other row on the next day
    fixed = {
        "id": [f"e{number}" for number in numbers],
        "at": stamp(us),
        "known_at": stamp(us),
        "position": np.array(numbers, dtype=np.int64),
        "amount": np.array(numbers, dtype=np.float64),
    }
    return pd.DataFrame(fixed | columns)


def ids(log: OfflineLog, **options: Any) -> list[str]:
    return list(log.events("sales", **options).get("id", []))


def test_an_unfinished_write_is_not_read_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log, record = OfflineLog(tmp_path), tmp_path / "_flushed" / "log-0.json"
    log.write("log-0", 2, {"events/sales": rows(1, 2)})
    before = record.read_bytes()
    log.write("log-0", 9, {"events/sales": rows(3, 9)})
    # killed before the position was recorded, after it was noted what would be written
    written = [str(p.relative_to(tmp_path)) for p in (tmp_path / "events").rglob("*-00000000000000000009.parquet")]
    record.write_bytes(before.replace(b'"writing":[]', f'"writing":{written}'.replace("'", '"').encode()))
    assert ids(log) == ["e1", "e2"]
    log.write("log-0", 4, {"events/sales": rows(3, 4)})  # the next attempt reads fewer entries at once
    log.write("log-0", 10, {"events/sales": rows(9, 10)})
    assert ids(log) == ["e1", "e2", "e3", "e4", "e9", "e10"]
    assert not [path for path in written if (tmp_path / path).exists() and "day=1970-01-12" in path]


def test_a_writer_thought_dead_changes_nothing(tmp_path: Path) -> None:
    log, zombie = OfflineLog(tmp_path), OfflineLog(tmp_path)
    log.write("log-0", 3, {"events/sales": rows(1, 2, 3)})
    zombie.write("log-0", 2, {"events/sales": rows(1, 2)})
    zombie.write("log-0", 5, {"events/sales": rows(2, 3, 4, 5)})
    assert ids(log) == ["e1", "e2", "e3", "e4", "e5"]
    assert log.flushed() == {"log-0": 5}


def test_two_writers_of_a_stream_write_every_row_once(tmp_path: Path) -> None:
    def write(start: int) -> None:
        log = OfflineLog(tmp_path)
        for until in range(start, 40, 2):
            log.write("log-0", until, {"events/sales": rows(*range(1, until + 1))})

    writers = [threading.Thread(target=write, args=(start,)) for start in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert ids(OfflineLog(tmp_path)) == [f"e{i}" for i in range(1, 40)]


def test_streams_do_not_disturb_each_other(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log-0", 5, {"events/sales": rows(1, 5)})
    log.write("log-1", 4, {"events/sales": rows(2, 4)})
    log.write("log-0", 7, {"events/sales": rows(7)})
    assert log.flushed() == {"log-0": 7, "log-1": 4}
    assert ids(log) == ["e1", "e2", "e4", "e5", "e7"]


def test_events_are_cut_by_the_moment_they_became_known(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log-0", 10, {"events/sales": rows(1, 2, 3)})
    since, until = (stamp([n * 30 * HOUR_US])[0].to_pydatetime() for n in (2, 3))
    assert ids(log, since=since, until=until) == ["e2"]


def test_a_key_group_has_what_serves_it_and_what_came_before(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log-0", 2, {"events/sales": rows(1, 2, by=["", "shop"])})
    log.write("log-1", 4, {"events/sales": rows(3, 4, by=["shop", "shop,till"]), "copies/sales": rows(3, by="till")})
    log.write("log-0", 6, {"events/sales": rows(5, 6, by=["shop", ""])})
    assert ids(log) == ["e1", "e2", "e3", "e4", "e5", "e6"]
    assert ids(log, by="shop") == ["e1", "e2", "e3", "e4", "e5"]
    assert ids(log, by="till") == ["e1", "e2", "e3", "e4"]
    assert ids(log, by="never") == ["e1", "e2", "e3", "e4", "e5", "e6"]
    tables = log.event_tables("sales", ["shop", "till"], ["id", "absent"])
    assert tables["till"]["id"].to_pylist() == ["e1", "e2", "e3", "e4"]
    assert tables["shop"]["absent"].null_count == 5


def test_a_field_absent_in_old_files_is_null_there(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    log.write("log-0", 1, {"events/sales": rows(1)})
    log.write("log-0", 2, {"events/sales": rows(2, till=7)})
    log.write("log-0", 3, {"events/sales": rows(3, till=1.5)})
    assert log.events("sales")["till"].tolist()[1:] == [7.0, 1.5]
    assert np.isnan(log.events("sales")["till"][0])


@pytest.mark.parametrize(
    ("table", "frame", "named"),
    [
        ("events/sales", rows(1).drop(columns="position"), "'events/sales' lack the column 'position'"),
        ("events/sales", rows(1, at="soon"), "Column 'at' of 'events/sales'"),
        ("events/sales", rows(1, position="x"), "Column 'position' of 'events/sales'"),
        ("events/sales", rows(1, id=[None]), "Column 'id' of 'events/sales' has nulls"),
        ("events/sales", rows(1, amount=[[1]]), "Column 'amount' of 'events/sales'"),
        ("labels/u", rows(1, prediction_id="a", label=1000), "Column 'label' of 'labels/u'"),
        ("nonsense/u", rows(1), "no kind of table 'nonsense'"),
        ("events/sales", rows(1, amount=["much"]), "Column 'amount' of 'events/sales' is double"),
    ],
)
def test_rows_of_another_schema_are_refused_whole(tmp_path: Path, table: str, frame: pd.DataFrame, named: str) -> None:
    log = OfflineLog(tmp_path)
    log.write("log-0", 1, {"events/sales": rows(0).assign(position=1)})
    with pytest.raises(DataError, match=named):
        log.write("log-0", 9, {"events/other": rows(2), table: frame.assign(position=frame.get("position", 5))
                               if named.endswith("double") else frame})  # fmt: skip
    assert log.flushed() == {"log-0": 1}
    assert log.events("other").empty


def many_files(tmp_path: Path) -> OfflineLog:
    log = OfflineLog(tmp_path)
    for i in range(1, 9):
        log.write("log-0", i, {"events/sales": rows(i).assign(known_at=stamp([i]), till=float(i) if i > 4 else i)})
        log.write("log-1", 100 * i, {"events/sales": rows(100 * i).assign(known_at=stamp([i]))})
    return log


def test_compaction_changes_nothing_that_is_read(tmp_path: Path) -> None:
    log = many_files(tmp_path)
    before = log.events("sales")
    assert log.compact("log-1", FAR) == 8
    assert log.compact(None, FAR) == 8
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    pd.testing.assert_frame_equal(log.events("sales"), before)
    assert log.compact(None, FAR) == 0
    log.write("log-0", 9, {"events/sales": rows(9).assign(known_at=stamp([9]))})
    assert len(log.events("sales")) == len(before) + 1
    assert log.compact(None, datetime(1970, 1, 1, tzinfo=UTC)) == 0


def test_a_compaction_killed_between_its_steps_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = many_files(tmp_path)
    before = log.events("sales")

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        log.compact(None, FAR)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(log.events("sales"), before)
    log.compact(None, FAR)
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    pd.testing.assert_frame_equal(log.events("sales"), before)


def test_a_compaction_leaves_unfinished_writes_alone(tmp_path: Path) -> None:
    log, record = OfflineLog(tmp_path), tmp_path / "_flushed" / "log-0.json"
    log.write("log-0", 1, {"events/sales": rows(1).assign(known_at=stamp([1]))})
    before = record.read_bytes()
    log.write("log-0", 2, {"events/sales": rows(2).assign(known_at=stamp([2]))})
    record.write_bytes(before)
    assert compaction.compact_log(tmp_path, None, "2100-01-01") == 0
    assert ids(log) == ["e1"]


def test_generations_are_written_once(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    frame = pd.DataFrame({"entity": ["1", "2"], "at": stamp([1, 2]), "known_at": stamp([1, 2]), "x": [0.5, np.nan]})
    log.write_generation("u", "v", "d", 5, frame)
    log.write_generation("u", "v", "d", 5, frame.assign(x=9.0))
    log.write_generation("u", "v", "d", 3, frame.iloc[:1])
    found = log.batch("u", "v", "d")
    assert log.generations("u", "v", "d") == [3, 5]
    assert found["generation"].tolist() == [3, 5, 5]
    assert found["x"].dtype == np.float32
    np.testing.assert_array_equal(found["x"], np.array([0.5, 0.5, np.nan], dtype=np.float32))
    with pytest.raises(DataError, match="lack the column 'known_at'"):
        log.write_generation("u", "v", "d", 6, frame.drop(columns="known_at"))


def test_what_was_known_stays_a_whole_number(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path)
    fixed = {"version": "1", "score": 0.5, "degraded": False}
    first = rows(1, prediction_id="a", **{"k__v@1": 2**62 + 1, "f__x": 1.0}, **fixed)
    log.write("predictions", 1, {"predictions/u": first})
    log.write("predictions", 2, {"predictions/u": rows(2, prediction_id="b", **fixed)})
    found = log.predictions("u")
    assert found["k__v@1"].tolist() == [2**62 + 1, -1]
    assert found["f__x"].dtype == np.float32


def test_shadows_are_left_out_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = OfflineLog(tmp_path)
    fixed = {"prediction_id": "a", "score": 0.5, "degraded": False}
    monkeypatch.delitem(schemas._TABLES["predictions"], "role")  # type: ignore[arg-type] # as older releases wrote
    log.write("predictions", 1, {"predictions/u": rows(1, version="1", **fixed)})
    assert log.predictions("u")["role"].tolist() == ["answer"]
    monkeypatch.undo()
    log.write("predictions", 2, {"predictions/u": rows(2, version="2", role="shadow", **fixed)})
    log.write("predictions", 3, {"predictions/u": rows(3, version="3", role="shadow", **fixed)})
    for _ in range(2):
        assert log.predictions("u")["version"].tolist() == ["1"]
        assert log.predictions("u", roles=["shadow"])["version"].tolist() == ["3"], "scored again: the last counts"
        assert log.predictions("u", roles=["answer", "shadow"])["role"].tolist() == ["answer", "shadow"]
        log.compact(None, FAR)


def test_an_empty_log_is_empty(tmp_path: Path) -> None:
    log = OfflineLog(tmp_path / "none")
    for found in (log.events("sales"), log.events("sales", by="shop"), log.late("sales"), log.predictions("u"),
                  log.labels("u"), log.batch("u", "v", "d")):  # fmt: skip
        assert found.empty
    assert log.sources() == []
    assert log.flushed() == {}
    assert log.compact(None, FAR) == 0
    assert not (tmp_path / "none").exists()
