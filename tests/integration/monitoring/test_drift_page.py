"""Drift as Evidently measures and draws it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.drift_page import draw_drift, served_columns

# Evidently reads its own models with an old interface of pydantic and asks for deprecated names.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def rows(n: int, seed: int, *, fare: float = 0.0, vendor: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "fare": rng.normal(fare, 1, n).astype(np.float32),
            "distance": rng.exponential(2, n).astype(np.float32),
            "zone": rng.integers(0, 260, n).astype(np.float32),
            "vendor": (rng.uniform(size=n) < vendor).astype(np.float32),
            "score": rng.uniform(size=n).astype(np.float32),
        }
    )


CODES = ("zone", "vendor")


def distances(live: pd.DataFrame, reference: pd.DataFrame, folder: Path) -> dict[str, float]:
    return draw_drift(live, reference, categorical=CODES, threshold=0.2, page=folder / "page.html")


def test_two_samples_of_one_distribution_are_close(tmp_path: Path) -> None:
    found = distances(rows(800, 1), rows(5000, 2), tmp_path)

    assert list(found) == ["fare", "distance", "zone", "vendor", "score"]
    assert max(found.values()) < 0.15


def test_what_moved_is_far_and_the_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "taxi" / "2019-02-05.html"

    found = draw_drift(rows(6000, 1, fare=1.0, vendor=0.9), rows(5000, 2), categorical=CODES, threshold=0.2, page=page)

    assert [name for name, distance in found.items() if distance > 0.2] == ["fare", "vendor"]
    assert found["fare"] == pytest.approx(1.0, abs=0.1)
    assert page.read_bytes() == (tmp_path / "taxi" / "latest.html").read_bytes()
    assert b"fare" in page.read_bytes()


def test_a_column_that_lost_its_values_has_no_distance(tmp_path: Path) -> None:
    found = distances(rows(800, 1).assign(distance=np.float32("nan")), rows(800, 2), tmp_path)

    assert list(found) == ["fare", "zone", "vendor", "score"]


def test_columns_of_another_version_are_not_compared(tmp_path: Path) -> None:
    logged = rows(800, 1).rename(columns={"fare": "f__fare"}).assign(f__other=1.0)
    served = served_columns(logged, ("fare", "new"))

    assert list(served.columns) == ["fare", "score"]
    assert list(distances(served, rows(800, 2), tmp_path)) == ["fare", "score"]
