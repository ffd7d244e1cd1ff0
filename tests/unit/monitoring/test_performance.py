from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from core.losses import auc, log_loss, row_log_loss
from features.segments import Cut
from monitoring.performance import join_labels, measure

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


def labelled(n: int, seed: int = 0, every: timedelta = timedelta(minutes=1)) -> pd.DataFrame:
    """Rows of a calibrated version, with a column of three shops and one of amounts."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.05, 0.95, n)
    return pd.DataFrame(
        {
            "at": pd.date_range(START, periods=n, freq=every),
            "score": score,
            "label": (rng.random(n) < score).astype(float),
            "shop": rng.choice(["a", "b", "c"], n, p=[0.6, 0.37, 0.03]),
            "f__amount": rng.normal(10, 2, n).astype(np.float32),
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
    assert performance.brier is not None
    assert performance.brier.value == pytest.approx(0.01)
    assert performance.from_at == performance.to_at == START + timedelta(minutes=1)


def test_of_one_row_nothing_is_certain() -> None:
    performance = measure(join_labels(predictions(0), labels(("p0", 1, 3)), HOUR, START + 2 * HOUR))

    assert performance.brier is not None
    assert (performance.brier.low, performance.brier.high) == (0, 1)
    assert performance.auc is None, "one label only has no area"


@pytest.mark.parametrize("asked", [predictions(), pd.DataFrame(), predictions(0)])
def test_nothing_labelled_is_measured_as_nothing(asked: pd.DataFrame) -> None:
    performance = measure(
        join_labels(asked, pd.DataFrame(), HOUR, START + 2 * HOUR), cuts=(Cut("shop", categories=("a",)),)
    )

    assert (performance.rows, performance.log_loss, performance.segments) == (0, None, ())
    assert performance.coverage == (0.0 if len(asked) else None)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    score = np.linspace(0.05, 0.95, 2001)
    entropy = -(score * np.log(score) + (1 - score) * np.log(1 - score))
    truth = float(entropy.mean())

    found = [measure(labelled(400, seed)).log_loss for seed in range(200)]

    held = np.mean([each.low <= truth <= each.high for each in found if each is not None])
    assert 0.9 <= held <= 0.99


def test_the_area_has_bounds_as_wide_as_those_of_a_plain_bootstrap() -> None:
    rows = labelled(1000)
    found = measure(rows).auc
    label, score = rows["label"].to_numpy(), rows["score"].to_numpy()
    rng = np.random.default_rng(1)
    drawn = [auc(label[i], score[i]) for i in rng.integers(0, 1000, (300, 1000))]

    assert found is not None
    assert found.high - found.low == pytest.approx(np.subtract(*np.percentile(drawn, [97.5, 2.5])), rel=0.25)


def test_rows_of_one_entity_count_as_one() -> None:
    rows = labelled(300)
    copies = pd.concat([rows.assign(who=np.arange(300))] * 10)

    apart, together = measure(copies).log_loss, measure(copies, by="who").log_loss
    alone = measure(rows.assign(who=np.arange(300)), by="who").log_loss

    assert apart is not None and together is not None and alone is not None
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert apart.value == pytest.approx(together.value)


def test_neighbours_in_time_that_are_alike_widen_the_bounds() -> None:
    rows = labelled(3000)
    alike = rows.iloc[np.repeat(np.arange(300), 10)].assign(at=rows["at"].to_numpy())
    mixed = alike.assign(at=np.random.default_rng(1).permutation(alike["at"].to_numpy()))

    wide, narrow = measure(alike).log_loss, measure(mixed).log_loss

    assert wide is not None and narrow is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_the_worst_segment_comes_first_beside_its_reference() -> None:
    reference = labelled(3000, 1).rename(columns={"f__amount": "amount"})
    rows = labelled(3000, 2)
    rows.loc[rows["shop"] == "b", "label"] = 1 - rows["label"]

    cuts = [Cut.of(name, reference[name].to_numpy()) for name in ("shop", "amount")]
    found = measure(rows, cuts=cuts, reference_losses={"shop=b": 0.5, "shop=a": 0.5}).segments

    assert found[0].name == "shop=b"
    assert found[0].reference_log_loss == 0.5
    assert found[0].log_loss.low > found[0].reference_log_loss
    names = [each.name for each in found]
    assert len([name for name in names if "amount" in name]) == 4
    assert sum(each.rows for each in found if "shop" in each.name) == 3000
    overall = float(row_log_loss(rows["label"].to_numpy(), rows["score"].to_numpy()).mean())
    assert found == tuple(sorted(found, key=lambda s: (s.reference_log_loss or overall) - s.log_loss.value))


def test_segments_of_few_rows_or_of_columns_that_are_not_there_are_left_out() -> None:
    cuts = [Cut.of("shop", labelled(500)["shop"].to_numpy()), Cut("city", categories=("x",))]

    found = measure(labelled(500), cuts=cuts).segments

    assert {each.name for each in found} == {"shop=a", "shop=b"}, "of c there are too few rows"
    assert all(each.reference_log_loss is None for each in found)
