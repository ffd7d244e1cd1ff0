"""What stands on a look's page before Evidently's report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from monitoring.drift_page import LATEST
from monitoring.look_page import curve_section, put_first, relations_section
from monitoring.profile import ReferenceProfile

POINT = {
    "version": "<7>", "from": "2019-01-24T23:00:00+00:00", "to": "2019-01-31T23:00:00+00:00", "rows": 1312,
    "labelled": 1290, "log_loss": 0.6121, "low": 0.6011, "high": 0.6240,
}  # fmt: skip


def test_the_curve_shows_each_window_with_its_interval() -> None:
    section = curve_section([POINT, POINT | {"low": None, "high": None, "log_loss": 0.3}], 0.59)

    assert section.count("<svg") == 2
    for text in ("2019-01-24 23:00", "&lt;7&gt;", "1312", "1290", "0.6121", "0.6011 to 0.6240", "0.5900", "0.3000"):
        assert text in section
    assert "<7>" not in section


def test_the_pair_whose_relation_moved_most_comes_first(
    reference: ReferenceProfile, make_watched: Callable[..., pd.DataFrame]
) -> None:
    rows = make_watched(2_000, seed=2, first_day=61, days=7)

    by_minutes = np.sort(rows["miles"].to_numpy())[rows["minutes"].argsort().argsort().to_numpy()]
    section = relations_section(reference, rows.assign(miles=by_minutes))

    first = section.split("<tr>")[2]
    assert "miles, minutes" in first
    assert "+1.00" in first


def test_sections_stand_first_in_the_body(tmp_path: Path) -> None:
    page = tmp_path / LATEST
    page.write_text("<html><head></head><body><p>report</p></body></html>", encoding="utf-8")

    put_first(page, "<section>s</section>")

    assert page.read_text() == "<html><head></head><body><section>s</section><p>report</p></body></html>"
