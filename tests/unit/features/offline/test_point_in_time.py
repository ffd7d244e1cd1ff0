"""The point-in-time join equals, bit for bit, a loop over questions and events."""

from __future__ import annotations

import itertools
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.use_case import EventSource, Field, History, Label, UseCase
from features import tiles
from features.batch.published import NEVER_US, TIMELESS_US, batch_values
from features.columns import feature_matrix
from features.definitions import (
    Aggregate,
    BatchView,
    DerivedView,
    FeatureSet,
    ParquetTable,
    RequestView,
    WindowView,
    view_digest,
)
from features.offline.log import OfflineLog, stamp
from features.offline.point_in_time import point_in_time_matrix

MINUTE_US = 60_000_000
START_US = 26_000_000 * MINUTE_US
SHOPS = ("a", "b", "ünïcode/1", "c:d\x1f\\")
SHOP = Field(name="shop", dtype="str")
TILL = Field(name="till", dtype="int", nullable=True)
AMOUNT = Field(name="amount", dtype="float", nullable=True)
COUNT = Field(name="n", dtype="int", nullable=True)
BUYER = Field(name="buyer", dtype="str", nullable=True)
SALES = EventSource(name="sales", fields=(SHOP, TILL, AMOUNT, COUNT, BUYER))

EVERY_KIND = (
    Aggregate(name="count", kind="count"),
    Aggregate(name="sum", kind="sum", field="amount"),
    Aggregate(name="cents", kind="sum", field="amount", resolution=0.01),
    Aggregate(name="mean", kind="mean", field="amount", default=-1.0),
    Aggregate(name="min", kind="min", field="amount", default=np.nan),
    Aggregate(name="max", kind="max", field="n", resolution=1.0, default=-5.0),
    Aggregate(name="last", kind="last", field="amount", default=0.25),
    Aggregate(name="buyers", kind="distinct", field="buyer"),
    Aggregate(name="amounts", kind="distinct", field="amount"),
    Aggregate(name="ratio", kind="ratio", field="amount", over="n", default=0.1),
    Aggregate(name="per_event", kind="ratio", field="n"),
)


def window(name: str, entity: str | tuple[str, ...], lateness_min: int, aggregates: Any = EVERY_KIND) -> WindowView:
    return WindowView(
        name=name, entity=entity, source="sales", tile=timedelta(minutes=10), aggregates=aggregates,
        windows=(timedelta(minutes=10), timedelta(minutes=40), timedelta(minutes=120)),
        lateness=timedelta(minutes=lateness_min),
    )  # fmt: skip


SHOP_VIEW = window("shop", "shop", 60)
PAIR_VIEW = window("pair", ("shop", "till"), 25)
PLAIN_VIEW = window("plain", "till", 60, EVERY_KIND[:4])
PRICES = BatchView(
    name="prices", entity="shop", source=ParquetTable(path="p", at="at"), outputs=("low", "high"),
    defaults=(0.1, -1.0), ttl=timedelta(minutes=90),
)  # fmt: skip
PLACES = BatchView(
    name="places", entity=("shop", "till"), source=ParquetTable(path="q", at=None), outputs=("size",),
    defaults=(0.3,), ttl=timedelta(minutes=1),
)  # fmt: skip
ASKED = RequestView(
    name="asked",
    inputs=("amount", "at"),
    outputs=("twice",),
    compute=lambda c: {"twice": c["amount"] * 2 + c["at"] % 7},
)
COMPARED = DerivedView(
    name="compared", inputs=("shop_sum_40m", "prices_low", "amount", "twice"), outputs=("gap",),
    compute=lambda c: {"gap": c["shop_sum_40m"] * c["prices_low"] - c["amount"] + c["twice"]},
)  # fmt: skip
VIEWS = (ASKED, SHOP_VIEW, PRICES, PAIR_VIEW, COMPARED, PLAIN_VIEW, PLACES)


def use_case(*views: Any) -> UseCase:
    return UseCase(
        name="sample", description="", entities=(SHOP, TILL), request=(AMOUNT,), sources=(SALES,),
        features=FeatureSet(views), label=Label(name="sold", horizon=timedelta(hours=1), known_only_after=()),
        estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
        history=lambda folder: History(pd.DataFrame(), pd.DataFrame(), {}),
    )  # fmt: skip


event = st.tuples(
    st.sampled_from((*SHOPS, "")),
    st.none() | st.integers(1, 3),
    st.none() | st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.1, 0.2, 0.3, -0.0]),
    st.none() | st.integers(-3, 3),
    st.sampled_from(["", "x", "y", "z"]),
    st.integers(-5, 80),  # minutes from happening to becoming known
    st.integers(0, 12),  # minutes since the event before became known
    st.sampled_from(["shop,shop+till,till", "", "shop+till", "shop,till"]),
)
question = st.tuples(
    st.sampled_from((*SHOPS, "nobody")),
    st.none() | st.integers(1, 4),
    st.none() | st.floats(-1e6, 1e6, allow_nan=False),
    st.integers(-60, 400),
    st.none() | st.integers(0, 60),
    st.none() | st.integers(0, 4),
)
batch_row = st.tuples(
    st.sampled_from(SHOPS), st.integers(1, 3), st.floats(-100, 100, width=32) | st.just(np.nan),
    st.integers(0, 200), st.integers(0, 100), st.integers(1, 4),
)  # fmt: skip


def events_frame(drawn: list[Any]) -> pd.DataFrame:
    known = START_US + np.cumsum([row[6] for row in drawn]) * MINUTE_US
    frame = pd.DataFrame(
        {
            "id": [f"e{i}" for i in range(len(drawn))],
            "shop": [row[0] for row in drawn],
            "till": np.array([np.nan if row[1] is None else row[1] for row in drawn], dtype=np.float64),
            "amount": np.array([np.nan if row[2] is None else row[2] for row in drawn], dtype=np.float64),
            "n": np.array([np.nan if row[3] is None else row[3] for row in drawn], dtype=np.float64),
            "buyer": [row[4] for row in drawn],
            "position": np.arange(len(drawn)) // 2 + 1,
            "row": np.arange(len(drawn)) % 2,
            "by": [row[7] for row in drawn],
        }
    )
    frame["at"] = stamp(known - np.array([row[5] for row in drawn], dtype=np.int64) * MINUTE_US)
    frame["known_at"] = stamp(known)
    return frame


def questions_frame(drawn: list[Any], with_known: bool) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "shop": [row[0] for row in drawn],
            "till": np.array([np.nan if row[1] is None else row[1] for row in drawn], dtype=np.float64),
            "amount": np.array([np.nan if row[2] is None else row[2] for row in drawn], dtype=np.float64),
        }
    )
    frame["at"] = stamp([START_US + row[3] * MINUTE_US + 17 for row in drawn])
    if with_known:
        for view in (SHOP_VIEW, PAIR_VIEW, PLAIN_VIEW, PRICES, PLACES):
            place = 4 if isinstance(view, WindowView) else 5
            frame[f"k__{view.name}@{view_digest('sample', view)}"] = [
                -1 if row[place] is None else row[place] for row in drawn
            ]
    return frame


def us(moments: pd.Series) -> Any:
    return moments.astype("datetime64[us, UTC]").astype("int64").to_numpy()


def naive_window(view: WindowView, events: pd.DataFrame, question: Any, known: int) -> Any:
    """One question's values, from the declared meaning alone."""
    none = tiles.values(view, tiles.empty_rows(view, (1, len(view.windows))))[0]
    key = [getattr(question, k) for k in view.keys]
    if any(k is None or k != k or k == "" for k in key) or events.empty:
        return none
    at_us = int(question.at_us)
    mine = events[np.all([events[k] == v for k, v in zip(view.keys, key, strict=True)], axis=0)]
    served = mine["by"].str.split(",").map(lambda groups: view.by in groups)
    ever = events[events["by"].str.split(",").map(lambda groups: view.by in groups)]
    first = us(ever["known_at"]).min() if len(ever) else 2**62
    mine = mine[served.to_numpy(dtype=bool) | (us(mine["known_at"]) < first)]
    event_us, known_us = us(mine["at"]), us(mine["known_at"])
    visible = mine["position"].to_numpy() <= known if known >= 0 else np.maximum.accumulate(known_us) <= at_us
    visible &= event_us >= known_us - view.lateness_us
    cells = tiles.empty_rows(view, (1, len(view.windows)))
    fields = {f: mine[f].to_numpy() for f in ("amount", "n")} | {"buyer": mine["buyer"].to_numpy(dtype=object)}
    rows = tiles.event_rows(view, event_us, fields)
    now = at_us // view.tile_us
    for w, length in enumerate(view.window_tiles):
        inside = visible & (rows[:, 0] <= now) & (rows[:, 0] > now - length)
        if inside.any():
            cells[0, w] = tiles.combine(view, rows[inside], np.zeros(1, dtype=np.int64))[0]
    return tiles.values(view, cells)[0]


def naive_batch(view: BatchView, rows: list[Any], question: Any, known: int) -> Any:
    best = None
    at_us = int(question.at_us)
    key = [getattr(question, k) for k in view.keys]
    for entity, row_at, row_known, generation, values in rows:
        visible = generation <= known if known >= 0 else max(row_at, row_known) <= at_us
        if visible and list(entity) == key and (best is None or (row_at, generation) >= best[0]):
            best = (row_at, generation), values
    moment = NEVER_US if best is None else best[0][0]
    values = np.zeros((1, len(view.outputs)), np.float32) if best is None else np.array([best[1]], dtype=np.float32)
    return batch_values(view, np.array([moment]), values, np.array([at_us]))[0][0]


def naive_matrix(events: pd.DataFrame, batches: dict[str, list[Any]], asked: pd.DataFrame) -> Any:
    asked = asked.assign(at_us=us(asked["at"]))
    stored: dict[str, list[Any]] = {}
    for row, view in itertools.product(asked.itertuples(), VIEWS):
        if isinstance(view, WindowView | BatchView):
            name = f"k__{view.name}@{view_digest('sample', view)}"
            known = int(asked.at[row.Index, name]) if name in asked else -1
            found = (
                naive_window(view, events, row, known)
                if isinstance(view, WindowView)
                else naive_batch(view, batches[view.name], row, known)
            )
            stored.setdefault(view.name, []).append(found)
    columns = {"at": asked["at_us"].to_numpy(), "amount": asked["amount"].to_numpy()}
    return feature_matrix(FeatureSet(VIEWS), {name: np.stack(rows) for name, rows in stored.items()}, columns)


def write_batches(log: OfflineLog, drawn: list[Any]) -> dict[str, list[Any]]:
    """Four generations of each batch view; returns the rows as (entity, at, known, generation, values)."""
    found: dict[str, list[Any]] = {"prices": [], "places": []}
    for generation in range(1, 5):
        mine = list({(row[0], row[3]): row for row in drawn if row[5] == generation}.values())
        at, known = ([START_US + (row[3] + d * row[4]) * MINUTE_US for row in mine] for d in (0, 1))
        found["prices"] += [
            ((row[0],), a, k, generation, (row[2], np.float32(row[4])))
            for row, a, k in zip(mine, at, known, strict=True)
        ]
        frame = pd.DataFrame(
            {
                "entity": [row[0] for row in mine], "at": stamp(at), "known_at": stamp(known),
                "low": np.array([row[2] for row in mine], dtype=np.float32),
                "high": np.array([row[4] for row in mine], dtype=np.float32),
            }
        )  # fmt: skip
        log.write_generation("sample", "prices", view_digest("sample", PRICES), generation, frame)
        once = list({(row[0], row[1]): row for row in mine}.values())
        texts = [row[0].replace("\\", "\\\\").replace("\x1f", "\\x1f") + f"\x1f{row[1]}" for row in once]
        found["places"] += [((row[0], row[1]), TIMELESS_US, TIMELESS_US, generation, (row[2],)) for row in once]
        frame = pd.DataFrame({"entity": texts, "size": np.array([row[2] for row in once], dtype=np.float32)})
        never = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
        log.write_generation(
            "sample", "places", view_digest("sample", PLACES), generation, frame.assign(at=never, known_at=never)
        )
    return found


@given(
    drawn=st.lists(event, max_size=60),
    batch=st.lists(batch_row, max_size=25),
    asked=st.lists(question, min_size=1, max_size=12),
    with_known=st.booleans(),
    at_once=st.sampled_from([2, 10_000]),
)
def test_the_join_equals_a_loop(
    drawn: list[Any], batch: list[Any], asked: list[Any], with_known: bool, at_once: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = OfflineLog(Path(folder))
        events, questions = events_frame(drawn), questions_frame(asked, with_known)
        half = len(events) // 4 * 2
        log.write("log-0", half // 2, {"events/sales": events.iloc[:half]})
        log.write("log-0", len(events), {"events/sales": events.iloc[half:]})
        rows = write_batches(log, batch)
        found = point_in_time_matrix(log, use_case(*VIEWS), questions, events_at_once=at_once)
        np.testing.assert_array_equal(found, naive_matrix(events, rows, questions))


def test_a_question_alone_has_the_features_it_has_among_others(tmp_path: Path) -> None:
    log, questions = OfflineLog(tmp_path), many_questions(500)
    log.write("log-0", 400, {"events/sales": many_events(800)})
    whole = point_in_time_matrix(log, use_case(*VIEWS), questions)
    for i in (0, 7, 499):
        alone = point_in_time_matrix(log, use_case(*VIEWS), questions.iloc[[i]])
        np.testing.assert_array_equal(alone[0], whole[i])


def test_much_disorder_is_answered_exactly(tmp_path: Path) -> None:
    log, events, questions = OfflineLog(tmp_path), many_events(800), many_questions(40)
    log.write("log-0", 400, {"events/sales": events})
    write_batches(log, [])
    found = point_in_time_matrix(log, use_case(*VIEWS), questions)
    np.testing.assert_array_equal(found, naive_matrix(events, {"prices": [], "places": []}, questions))


def test_progress_ends_when_everything_is_done(tmp_path: Path) -> None:
    log, told = OfflineLog(tmp_path), list[tuple[int, int]]()
    log.write("log-0", 400, {"events/sales": many_events(800)})
    point_in_time_matrix(log, use_case(*VIEWS), many_questions(10), progress=lambda *pair: told.append(pair))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (60, 60)


@pytest.mark.parametrize("given", [{}, {"amount": np.array([], dtype=np.float64)}])
def test_no_question_has_no_row(tmp_path: Path, given: Any) -> None:
    rows = pd.DataFrame({"at": stamp([]), "shop": [], "till": []} | given)
    found = point_in_time_matrix(OfflineLog(tmp_path), use_case(*VIEWS), rows)
    assert found.shape == (0, len(FeatureSet(VIEWS).columns))


def many_events(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return events_frame(
        [
            (SHOPS[rng.integers(4)], int(rng.integers(1, 4)), float(rng.normal()), int(rng.integers(5)),
             "xyzuvw"[rng.integers(6)], int(rng.integers(-5, 60)), int(rng.integers(2)), "shop,shop+till,till")
            for _ in range(n)
        ]
    )  # fmt: skip


def many_questions(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    drawn = [
        (SHOPS[rng.integers(4)], int(rng.integers(1, 5)), 1.5, int(rng.integers(0, 500)), None, None) for _ in range(n)
    ]
    return questions_frame(drawn, with_known=False)
