"""What the demo reports is computed from what was logged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.offline.log import OfflineLog, stamp
from stack.comparison import Comparison, compare_with_frozen, row_log_loss
from stack.replay import ReplayResult, Retrain
from stack.report import draw, first_caught, summary, write_page
from stack.traffic import Record, rolling_log_loss
from tests.sample_use_case import sample_use_case

DAY_US = 86_400_000_000
SINCE = datetime(1970, 1, 20, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> OfflineLog:
    """Forty predictions, one a day; the served score is right from day 19 on, the frozen one never."""
    use_case, n = sample_use_case(), 40
    days = np.arange(n)
    at = stamp(days * DAY_US)
    label = (days % 2).astype("int8")
    right = np.where(label == 1, 0.9, 0.1)
    frame = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in days], "version": np.where(days < 19, "1", "2"),
            "score": np.where(days < 19, 1 - right, right).astype("float32"), "degraded": False,
            "shop": "a", "amount": 1.0, "position": days + 1, "at": at, "known_at": at,
        }
    )  # fmt: skip
    features = pd.DataFrame({f"f__{c}": np.float32(0) for c in use_case.features.columns}, index=frame.index)
    log = OfflineLog(tmp_path / "offline")
    log.write("predictions", n, {"predictions/sample": frame.join(features)})
    labels = pd.DataFrame({"prediction_id": frame["prediction_id"], "label": label, "at": at, "known_at": at})
    log.write("labels", n, {"labels/sample": labels.assign(position=days + 1)})
    return log


def frozen(matrix: np.ndarray) -> np.ndarray:
    return np.full(len(matrix), 0.5, dtype=np.float32)


@pytest.fixture
def comparison(log: OfflineLog) -> Comparison:
    return compare_with_frozen(log, sample_use_case(), frozen, SINCE)


def test_both_are_scored_on_the_same_predictions(comparison: Comparison) -> None:
    assert comparison.predictions == 21
    assert comparison.frozen == pytest.approx(np.log(2))
    assert comparison.evergreen == pytest.approx(-np.log(0.9), rel=1e-5)
    assert comparison.gain == pytest.approx(1 - np.log(0.9) / np.log(0.5), rel=1e-5)
    assert comparison.months["predictions"].tolist() == [31, 9]
    assert comparison.months["versions"].tolist() == ["1, 2", "2"]


def test_the_summary_names_the_retrain_that_caught_the_change(comparison: Comparison, tmp_path: Path) -> None:
    def retrain(day: int, reason: str, promoted: bool) -> Retrain:
        return Retrain(datetime(1970, 1, day, tzinfo=UTC), reason, str(day), promoted, 7.25, "f")

    early, refused, planned = retrain(5, "drift", True), retrain(21, "drift", False), retrain(22, "schedule", True)
    caught = retrain(23, "performance", True)
    assert first_caught([early, refused, planned, caught], SINCE) is caught
    result = ReplayResult(Record(predictions=40, failed=["x"]), [early, refused, planned, caught])
    values = summary(sample_use_case(), result, comparison)
    assert values["failed_requests"] == 1
    assert values["drift_detected_at"] == "1970-01-23T00:00:00+00:00"
    assert values["detected_to_serving_s"] == 7.2
    draw(comparison, result.retrains, sample_use_case(), tmp_path / "plot.png")
    write_page(tmp_path / "page.html", values, comparison, [], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "sample" in (tmp_path / "page.html").read_text()


def test_log_loss_of_sure_and_wrong_is_finite() -> None:
    assert row_log_loss(np.array([1, 0]), np.array([0.0, 1.0])).tolist() == pytest.approx([-np.log(1e-7)] * 2)


def test_the_rolling_log_loss_counts_answered_predictions_only() -> None:
    record = Record(answers={"a": ("id", 0.5, "1")})
    labels = pd.DataFrame({"key": ["a", "b"], "label": [1, 0]})
    assert rolling_log_loss(record, labels) == pytest.approx(np.log(2))
    assert np.isnan(rolling_log_loss(Record(), labels))
