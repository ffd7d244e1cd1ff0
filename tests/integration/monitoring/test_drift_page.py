"""Drift as Evidently measures it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring.drift_page import draw_drift, measure_drift, served_columns

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


def test_two_samples_of_one_distribution_do_not_drift() -> None:
    report = measure_drift(rows(800, 1), rows(5000, 2), categorical=CODES, threshold=0.2)

    assert (report.drifted, report.share, report.rows) == ({}, 0.0, 800)
    assert max(report.columns.values()) < 0.15
    assert list(report.columns) == ["fare", "distance", "zone", "vendor"]
    assert report.score_distance is not None
    assert report.score_distance < 0.15


def test_what_moved_is_named_largest_first_and_the_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "taxi" / "2019-02-05.html"

    live, reference = rows(6000, 1, fare=1.0, vendor=0.9), rows(5000, 2)
    report = measure_drift(live, reference, categorical=CODES, threshold=0.2)
    draw_drift(live, reference, categorical=CODES, threshold=0.2, page=page)

    assert list(report.drifted) == ["fare", "vendor"]
    assert report.columns["fare"] == pytest.approx(1.0, abs=0.1)
    assert (report.share, report.rows) == (0.5, 3000)
    assert page.read_bytes() == (tmp_path / "taxi" / "latest.html").read_bytes()
    assert b"fare" in page.read_bytes()


def test_a_column_that_lost_its_values_has_drifted() -> None:
    report = measure_drift(
        rows(800, 1).assign(distance=np.float32("nan")), rows(800, 2), categorical=CODES, threshold=0.2
    )

    assert list(report.drifted) == ["distance"]
    assert report.columns["distance"] == 1.0


def test_columns_of_another_version_are_not_compared() -> None:
    logged = rows(800, 1).rename(columns={"fare": "f__fare"}).assign(f__other=1.0)
    served = served_columns(logged, ("fare", "new"))

    report = measure_drift(served, rows(800, 2), categorical=CODES, threshold=0.2)

    assert list(served.columns) == ["fare", "score"]
    assert list(report.columns) == ["fare"]
