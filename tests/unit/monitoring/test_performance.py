from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from monitoring.performance import auc, join_labels, log_loss, measure

START = datetime(2019, 2, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)

scored = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=2, max_size=50
).filter(lambda rows: len({label for label, _ in rows}) == 2)  # fmt: skip


def predictions(*minutes: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prediction_id": [f"p{minute}" for minute in minutes],
            "at": [START + timedelta(minutes=minute) for minute in minutes],
            "score": np.linspace(0.1, 0.9, len(minutes)),
        }
    )


def labels(*rows: tuple[str, int, int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prediction_id": [name for name, _, _ in rows],
            "label": [label for _, label, _ in rows],
            "known_at": [START + timedelta(minutes=minute) for _, _, minute in rows],
        }
    )


@given(scored)
def test_agrees_with_scikit_learn(rows: list[tuple[int, float]]) -> None:
    label, score = np.array([r[0] for r in rows], dtype=float), np.array([r[1] for r in rows])

    assert auc(label, score) == pytest.approx(metrics.roc_auc_score(label, score))
    clipped = np.clip(score, np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    assert log_loss(label, score) == pytest.approx(metrics.log_loss(label, clipped))


def test_predictions_wait_for_the_horizon_even_when_their_label_is_there() -> None:
    joined = join_labels(predictions(0, 50), labels(("p0", 1, 5), ("p50", 1, 51)), HOUR, START + 1.5 * HOUR)

    assert joined["prediction_id"].tolist() == ["p0"]
    assert joined["label"].tolist() == [1.0]


def test_a_label_after_the_horizon_corrects() -> None:
    late = labels(("p0", 0, 5), ("p0", 1, 300))

    assert join_labels(predictions(0), late, HOUR, START + 2 * HOUR)["label"].tolist() == [0.0]
    assert join_labels(predictions(0), late, HOUR, START + 6 * HOUR)["label"].tolist() == [1.0]


def test_what_has_no_label_lowers_the_coverage_only() -> None:
    performance = measure(join_labels(predictions(0, 1), labels(("p1", 1, 3)), HOUR, START + 2 * HOUR))

    assert (performance.rows, performance.coverage, performance.base_rate) == (1, 0.5, 1.0)
    assert performance.brier == pytest.approx(0.01)
    assert performance.from_at == performance.to_at == START + timedelta(minutes=1)


@pytest.mark.parametrize("asked", [predictions(), pd.DataFrame(), predictions(0)])
def test_nothing_labelled_is_measured_as_nothing(asked: pd.DataFrame) -> None:
    performance = measure(join_labels(asked, pd.DataFrame(), HOUR, START + 2 * HOUR))

    assert performance.rows == 0
    assert performance.facts()["log_loss"] is None


def test_one_label_only_has_no_auc() -> None:
    performance = measure(join_labels(predictions(0), labels(("p0", 1, 3)), HOUR, START + 2 * HOUR))

    assert performance.facts()["auc"] is None
    assert performance.facts()["from_at"] == "2019-02-02T00:00:00+00:00"
