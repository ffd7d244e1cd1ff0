from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from monitoring.profile import ReferenceProfile
from monitoring.profile_json import dump_profile, load_profile
from monitoring.window import WindowProfile, profile_window

Profiled = Callable[..., ReferenceProfile]
Rows = Callable[..., pd.DataFrame]


def test_a_profile_says_what_its_rows_are_like(make_watched: Rows, profiled: Profiled) -> None:
    rows = make_watched(3_000, seed=1)
    rows.loc[:299, "miles"] = np.nan
    found = profiled(rows, importance={"fare": 3.0, "miles": 1.0, "zone": -1.0})
    assert found.summaries["fare"].mean == pytest.approx(rows["fare"].mean())
    assert found.summaries["miles"].nulls == pytest.approx(0.1)
    assert found.summaries["minutes"].quantiles[4] == pytest.approx(rows["minutes"].median())
    assert found.importance == {"fare": 0.75, "miles": 0.25, "zone": 0.0}
    assert found.related == ("fare", "miles", "minutes"), "codes have no order"
    assert found.correlations[0, 0] == pytest.approx(1)
    assert abs(found.correlations[0, 1]) < 0.1
    assert found.quality[""].rows == 3_000
    assert found.histograms.of("fare").sum() == found.rows == 3_000


def test_segments_with_enough_rows_are_profiled_by_themselves(make_watched: Rows, profiled: Profiled) -> None:
    rows = make_watched(3_000, seed=1)
    found = profiled(rows, segments={"zone": rows["zone"].to_numpy(), "who": np.array(["a"] * 2_900 + ["b"] * 100)})
    assert sorted(found.segments) == ["who=a", "zone=1", "zone=2", "zone=3"]
    assert found.segments["zone=2"].of("fare").sum() == (rows["zone"] == 2).sum() == found.quality["zone=2"].rows
    window = WindowProfile(found).add(rows.rename(columns={"zone": "f__zone"}).assign(who="a"))
    assert window.segment("zone=2").of("fare").sum() == (rows["zone"] == 2).sum()
    assert window.segment("who=a").of("label").sum() == 3_000


def test_rows_without_score_or_label_count_for_neither(make_watched: Rows, profiled: Profiled) -> None:
    rows = make_watched(1_000, seed=1)
    rows.loc[:499, "score"] = np.nan
    rows.loc[400:599, "label"] = np.nan
    found = profiled(rows).histograms
    assert [int(found.of(name).sum()) for name in ("score", "label", "residual")] == [500, 800, 400]


def test_a_profile_is_the_same_after_it_was_written(make_watched: Rows, profiled: Profiled) -> None:
    rows = make_watched(1_000, seed=1)
    rows["miles"] = np.nan
    found = profiled(rows, segments={"zone": rows["zone"].to_numpy()})
    written = dump_profile(found)
    again = load_profile(written)
    assert dump_profile(again) == written == dump_profile(profiled(rows, segments={"zone": rows["zone"].to_numpy()}))
    assert again.bins == found.bins
    assert (again.histograms.counts == found.histograms.counts).all()


@pytest.mark.parametrize("written", [b"{}", b"[]", b'{"format": 99}', b"nothing"])
def test_what_is_no_profile_is_refused(written: bytes) -> None:
    with pytest.raises(ValueError, match=r"reference profile|Expecting"):
        load_profile(written)


def test_chunks_make_the_profile_of_all_rows(reference: ReferenceProfile, make_watched: Rows) -> None:
    rows = make_watched(900, seed=3)
    whole = profile_window(reference, [rows])
    parts = profile_window(reference, [rows[:200], rows[200:250]])
    parts.merge(profile_window(reference, [rows[250:]])).merge(WindowProfile(reference))
    assert (parts.counts == whole.counts).all()
    assert (parts.magnitudes == whole.magnitudes).all()
    assert parts.ranks.correlations == pytest.approx(whole.ranks.correlations)
    assert (parts.rows, parts.from_us, parts.to_us) == (whole.rows, whole.from_us, whole.to_us)
    assert parts.streaks is not None
    assert whole.streaks is not None
    assert (parts.streaks.longest == whole.streaks.longest).all()


def test_a_window_does_not_grow_with_its_rows(reference: ReferenceProfile, make_watched: Rows) -> None:
    sizes = []
    for rows in (500, 5_000):
        window = WindowProfile(reference).add(make_watched(rows, seed=3))
        sizes.append(window.counts.nbytes + window.magnitudes.nbytes + window.ranks.products.nbytes)
    assert sizes[0] == sizes[1]


def test_rows_in_any_order_and_under_logged_names_count_alike(reference: ReferenceProfile, make_watched: Rows) -> None:
    rows = make_watched(500, seed=3)
    logged = rows.rename(columns={name: f"f__{name}" for name in ("fare", "miles", "minutes", "zone")})
    shuffled = logged.sample(frac=1, random_state=1)
    ours, theirs = (profile_window(reference, [frame]) for frame in (rows, shuffled))
    assert (ours.counts == theirs.counts).all()
    assert theirs.missing == frozenset()
    without = WindowProfile(reference).add(rows.drop(columns="fare"))
    assert without.missing == {"fare"}
    assert without.histograms.of("fare")[:, -1].sum() == 500
