from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from monitoring.profile import ReferenceProfile
from monitoring.profiling import profile_reference

START = pd.Timestamp("2026-01-05", tz="UTC")
NAMES = ("fare", "miles", "minutes", "zone")

Rows = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def make_watched() -> Rows:
    """Rows spread evenly over some days: three quantities of different sizes, a code, a calibrated score, its label."""

    def make(rows: int, *, seed: int, first_day: int = 0, days: int = 60) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        at = START + pd.to_timedelta(np.sort(rng.uniform(first_day, first_day + days, rows)) * 86_400, unit="s")
        fare, miles = rng.gamma(4.0, 3.0, rows), rng.lognormal(1.0, 0.5, rows)
        score = 1 / (1 + np.exp(-(fare - 12) / 3))
        return pd.DataFrame(
            {
                "at": at.as_unit("us"),
                "fare": fare.astype(np.float32),
                "miles": miles.astype(np.float32),
                "minutes": (200 + 40 * rng.standard_normal(rows)).astype(np.float32),
                "zone": rng.choice([1.0, 2.0, 3.0], rows, p=[0.6, 0.3, 0.1]).astype(np.float32),
                "score": score,
                "label": (rng.random(rows) < score).astype(float),
                "prediction_id": [f"{seed}-{i}" for i in range(rows)],
            }
        )

    return make


@pytest.fixture(scope="session")
def profiled() -> Callable[..., ReferenceProfile]:
    def profile(rows: pd.DataFrame, **more: object) -> ReferenceProfile:
        options: dict[str, object] = {
            "categorical": ("zone",),
            "scores": rows["score"].to_numpy(),
            "labels": rows["label"].to_numpy(),
        }
        return profile_reference(
            rows[list(NAMES)].to_numpy(dtype=np.float32),
            NAMES,
            at=rows["at"].dt.tz_convert(None).to_numpy(),
            **(options | more),  # type: ignore[arg-type]
        )

    return profile


@pytest.fixture(scope="session")
def reference(make_watched: Rows, profiled: Callable[..., ReferenceProfile]) -> ReferenceProfile:
    return profiled(make_watched(12_000, seed=1))
