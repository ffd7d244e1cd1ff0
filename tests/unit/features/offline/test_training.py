"""Training sets and audits read what was logged, and compare only what can be compared."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis

from core.use_case import DataCheck, UseCase
from features.definitions import FeatureSet, RequestView, feature_set, view_digest
from features.offline.audit import audit_features
from features.offline.importing import import_history
from features.offline.log import OfflineLog, stamp
from features.offline.point_in_time import point_in_time_matrix
from features.offline.training import build_training_set
from features.streaming.records import label_tables, prediction_tables
from features.streams import Keys
from tests.sample_use_case import sample_use_case

START_US = 1_600_000_000_000_000
HOUR_US = 3_600_000_000
SINCE = datetime(1990, 1, 1, tzinfo=UTC)
AS_OF = datetime(2090, 1, 1, tzinfo=UTC)


def write_events(log: OfflineLog) -> None:
    us = [START_US + i * HOUR_US // 4 for i in range(40)]
    frame = pd.DataFrame(
        {
            "id": [f"e{i}" for i in range(40)], "at": stamp(us), "known_at": stamp(us), "position": range(1, 41),
            "by": "shop", "shop": ["a", "b"] * 20, "amount": np.arange(40) / 8,
        }
    )  # fmt: skip
    log.write("log-0", 40, {"events/sales": frame})


def served(use_case: UseCase, log: OfflineLog, n: int = 12, **columns: Any) -> pd.DataFrame:
    """Logged predictions, with the features that the join gives them."""
    us = [START_US + i * HOUR_US for i in range(n)]
    frame = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in range(n)], "at": stamp(us), "known_at": stamp(us),
            "position": range(1, n + 1), "version": "1", "score": 0.5, "degraded": False,
            "shop": ["a", "b", "c"] * (n // 3), "amount": np.arange(n) / 4,
        }
    )  # fmt: skip
    for view in feature_set(use_case).stored_views:
        name = f"k__{view.name}@{view_digest(use_case.name, view)}"
        frame[name] = np.arange(n) * 3 if view.name == "recent" else 0
    frame = frame.assign(**columns)
    matrix = point_in_time_matrix(log, use_case, frame)
    return frame.assign(**{f"f__{c}": matrix[:, i] for i, c in enumerate(use_case.features.columns)})


def write_labels(log: OfflineLog, n: int = 12) -> None:
    us = [START_US + (i + 1) * HOUR_US for i in range(n)]
    frame = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in range(n)], "label": [0, 1] * (n // 2), "at": stamp(us),
            "known_at": stamp(us), "position": range(1, n + 1),
        }
    )  # fmt: skip
    log.write("labels", n, {"labels/sample": frame})


@pytest.fixture
def log(tmp_path: Path) -> OfflineLog:
    log = OfflineLog(tmp_path)
    write_events(log)
    write_labels(log)
    return log


def test_a_training_set_has_the_features_that_were_served(log: OfflineLog) -> None:
    use_case = sample_use_case()
    logged = served(use_case, log)
    log.write("predictions", 12, {"predictions/sample": logged})
    told: list[tuple[int, int]] = []
    found = build_training_set(log, use_case, as_of=AS_OF, since=SINCE, progress=lambda *pair: told.append(pair))
    features = logged[[f"f__{c}" for c in use_case.features.columns]].to_numpy(dtype=np.float32)
    np.testing.assert_array_equal(found.X, features)
    assert found.y.tolist() == [0, 1] * 6
    assert told[-1][0] == told[-1][1]
    # by time it would be another: each prediction had seen fewer or more events than were known at its time
    by_time = point_in_time_matrix(log, use_case, logged.drop(columns=[c for c in logged if c.startswith("k__")]))
    assert (by_time != features).any()
    np.testing.assert_array_equal(point_in_time_matrix(log, use_case, found.requests), features)


def test_labels_wait_for_their_horizon_and_checks_drop_rows(log: OfflineLog) -> None:
    use_case = dataclasses.replace(
        sample_use_case(), checks=(DataCheck(name="cheap", keep=lambda rows: rows["amount"] < 1.5),)
    )
    log.write("predictions", 12, {"predictions/sample": served(use_case, log)})
    as_of = datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(hours=8)
    found = build_training_set(log, use_case, as_of=as_of, since=SINCE)
    assert len(found.y) == 6
    assert found.dropped == {"cheap": 1}
    assert len(build_training_set(log, use_case, as_of=datetime(1995, 1, 1, tzinfo=UTC), since=SINCE).y) == 0


def test_an_audit_finds_what_differs_and_says_where(log: OfflineLog) -> None:
    use_case = sample_use_case()
    logged = served(use_case, log)
    logged.loc[3, "f__recent_total_5h"] += 0.5
    log.write("predictions", 12, {"predictions/sample": logged})
    report = audit_features(log, use_case)
    assert not report.is_clean
    assert {name: n for name, n in report.mismatches.items() if n} == {"recent_total_5h": 1}
    assert report.largest_difference["recent_total_5h"] == 0.5
    assert (report.rows, report.skipped) == (12, 0)


def test_an_audit_waits_for_events_that_are_not_written_yet(log: OfflineLog) -> None:
    use_case = sample_use_case()
    logged = served(use_case, log)
    known = next(c for c in logged if c.startswith("k__recent"))
    logged.loc[3, [known, "f__recent_total_5h"]] = [10**9, 77.0]
    log.write("predictions", 12, {"predictions/sample": logged})
    report = audit_features(log, use_case)
    assert report.is_clean
    assert (report.rows, report.skipped) == (11, 1)


def test_an_audit_leaves_out_what_was_answered_with_other_declarations(log: OfflineLog) -> None:
    use_case = sample_use_case()
    views = feature_set(use_case).views
    further = RequestView(
        name="further", inputs=("amount",), outputs=("half",), compute=lambda c: {"half": c["amount"]}
    )
    widened = dataclasses.replace(use_case, features=FeatureSet((*views, further)))
    logged = served(widened, log)
    older = served(use_case, log, version="0").assign(prediction_id=[f"q{i}" for i in range(12)])
    other = served(use_case, log, version="2").assign(prediction_id=[f"r{i}" for i in range(12)])
    other = other.rename(columns={c: "k__recent@00000000" for c in other if c.startswith("k__recent")})
    asked = served(use_case, log).assign(prediction_id=[f"s{i}" for i in range(12)], version="")
    everything = pd.concat([logged, older, other, asked], ignore_index=True).assign(position=range(1, 49))
    for name in [c for c in everything if c.startswith("k__")]:
        everything[name] = everything[name].astype("Int64")
    log.write("predictions", 48, {"predictions/sample": everything})
    report = audit_features(log, widened)
    assert report.is_clean
    assert (report.rows, report.skipped) == (12, 24)


def test_imported_history_is_trained_on_by_time(redis_client: redis.Redis, log: OfflineLog, tmp_path: Path) -> None:
    use_case, keys = sample_use_case(), Keys("test")
    us = [START_US + i * HOUR_US for i in range(9)]
    requests = pd.DataFrame({"key": [f"{i}" for i in range(9)], "at": stamp(us), "shop": ["a", "b", "c"] * 3})
    requests["amount"] = [None, *range(8)]
    labels = pd.DataFrame({"key": requests["key"], "label": [0, 1, 0] * 3, "at": stamp(us)})
    assert import_history(redis_client, keys, use_case, requests, labels) == 9
    fresh = OfflineLog(tmp_path / "imported")
    write_events(fresh)
    for stream, decode in ((keys.predictions, prediction_tables), (keys.labels, label_tables)):
        entries: Any = redis_client.xrange(stream)
        fresh.write(stream.split(":")[-1], 2**62, decode(entries, {"sample": use_case}))
    found = build_training_set(fresh, use_case, as_of=AS_OF, since=SINCE)
    expected = point_in_time_matrix(fresh, use_case, requests)
    np.testing.assert_array_equal(found.X, expected)
    assert audit_features(fresh, use_case).rows == 0
