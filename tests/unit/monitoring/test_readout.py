from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.losses import auc, log_loss
from monitoring.readout import Arm, read_out
from monitoring.weighted import Weighted

START = datetime(2019, 2, 2, tzinfo=UTC)


def arm(role: str, version: str, n: int, *, noise: float = 0.5, first: int = 0, seed: int = 1) -> Arm:
    """n predictions, one a minute, of about n / 3 units; every third has no label."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.95, n)
    label = (rng.uniform(size=n) < truth).astype(float)
    label[::3] = np.nan
    rows = pd.DataFrame(
        {
            "prediction_id": [f"p{first + i}" for i in range(n)],
            "at": pd.to_datetime([START + timedelta(minutes=first + i) for i in range(n)]),
            "score": np.clip(truth + rng.normal(0, noise, n), 0.01, 0.99),
            "degraded": np.arange(n) % 4 == 0,
            "label": label,
            "unit": rng.integers(0, max(1, n // 3), n),
        }
    )
    return Arm(role, version, rows)


def test_a_version_that_is_better_is_told_from_one_that_is_not() -> None:
    found = read_out([arm("champion", "7", 3000), arm("canary", "8", 3000, noise=0.05, seed=2)])
    champion, canary = found.versions
    assert (champion.role, canary.version, canary.predictions, canary.labelled) == ("champion", "8", 3000, 2000)
    assert canary.degraded_ratio == 0.25
    assert canary.log_loss is not None and canary.log_loss.low < canary.log_loss.value < canary.log_loss.high
    difference = found.differences["canary"]
    assert difference["log_loss"] is not None and difference["log_loss"].high < 0
    assert difference["auc"] is not None and difference["auc"].low > 0
    same = read_out([arm("champion", "7", 3000), arm("canary", "8", 3000, seed=2)]).differences["canary"]["log_loss"]
    assert same is not None and same.low < 0 < same.high


def test_only_the_period_counts_in_which_both_answered() -> None:
    found = read_out([arm("champion", "7", 100), arm("canary", "8", 100, first=60)])
    assert (found.since, found.until) == (START + timedelta(minutes=60), START + timedelta(minutes=99))
    assert [each.predictions for each in found.versions] == [40, 40]


def test_a_shadow_is_compared_on_the_very_requests_of_the_champion() -> None:
    champion = arm("champion", "7", 2000)
    rows = champion.rows.assign(score=np.clip(champion.rows["score"] + 0.001, 0, 1))
    shadow = Arm("shadow", "9", pd.concat([rows, arm("shadow", "9", 500, first=5000).rows]))
    found = read_out([champion, shadow]).differences["shadow"]["log_loss"]
    alone = read_out([champion, Arm("canary", "9", rows)]).differences["canary"]["log_loss"]
    assert found is not None and alone is not None
    assert abs(found.value) < 0.01 and found.high - found.low < (alone.high - alone.low) / 10


def test_nothing_side_by_side_is_said_and_is_json() -> None:
    apart = read_out([arm("champion", "7", 10), arm("canary", "8", 10, first=60)])
    assert apart.since is None and [each.predictions for each in apart.versions] == [0, 0]
    assert apart.differences == {"canary": {"log_loss": None, "auc": None}}
    for found in (apart, read_out([]), read_out([arm("champion", "7", 10)])):
        assert json.loads(json.dumps(found.as_json()))["since"] is None
    both = read_out([arm("champion", "7", 50), arm("canary", "8", 50)]).as_json()
    assert json.loads(json.dumps(both))["since"] == START.isoformat()


def test_the_same_data_give_the_same_intervals_and_units_are_drawn_whole() -> None:
    arms = [arm("champion", "7", 300), arm("canary", "8", 300, seed=2)]
    assert read_out(arms) == read_out(arms)
    one_unit = Arm("canary", "8", arms[1].rows.assign(unit=0))
    value = read_out([arms[0], one_unit]).versions[1].log_loss
    assert value is not None and value.low == pytest.approx(value.high), "one entity says nothing about others"


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 3)), max_size=30
    )
)  # fmt: skip
def test_a_weight_is_that_many_rows(rows: list[tuple[int, float, int]]) -> None:
    label, score = (np.array([row[i] for row in rows], dtype=np.float64) for i in (0, 1))
    weights = np.array([row[2] for row in rows], dtype=np.int64)
    scored = Weighted(label, score)
    repeated = np.repeat(label, weights), np.repeat(score, weights)
    assert scored.log_loss(weights) == pytest.approx(log_loss(*repeated), nan_ok=True)
    assert scored.auc(weights) == pytest.approx(auc(*repeated), nan_ok=True)
