"""Tables as people have them: for tests of what `evergreen new` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from stack.scaffold.declaration import Choices

ROWS = 600


def orders(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Orders of shops, ten minutes apart; dear ones and those of some shops come back more often."""
    rng = np.random.default_rng(seed)
    shop = rng.choice(["north", "south", "east", "west", "mid", "harbour", "hill", "old", "new"], rows)
    price = rng.gamma(2.0, 20.0, rows).round(2)
    chance = 1 / (1 + np.exp(-(price - 45) / 12 - 1.5 * (shop == "north")))
    return pd.DataFrame(
        {
            "ordered_at": pd.date_range("2024-01-01", periods=rows, freq="10min", tz="UTC"),
            "shop": shop,
            "price": price,
            "pieces": rng.integers(1, 9, rows),
            "returned": (rng.random(rows) < chance).astype("int64"),
        }
    )


def _with(**changes: Callable[[pd.DataFrame], object]) -> pd.DataFrame:
    table = orders()
    return table.assign(**{name: change(table) for name, change in changes.items()})


def _wide() -> pd.DataFrame:
    rng, table = np.random.default_rng(1), orders()
    more = {f"affinity-{i}": rng.normal(size=ROWS).round(3) for i in range(195)}
    return pd.concat([table, pd.DataFrame(more)], axis=1)


def _sparse_numbers(table: pd.DataFrame) -> pd.Series:
    return table["price"].where(np.arange(len(table)) % 3 > 0)


def shapes() -> dict[str, tuple[pd.DataFrame, Choices]]:
    """Tables by what is awkward about them, with the options without which nobody could know."""
    days = pd.date_range("2021-01-01", periods=ROWS // 2, freq="D").repeat(2)
    names = {
        "ordered_at": "Zeit der Bestellung", "shop": "Läden (Stadt)", "price": "价格", "pieces": "class",
        "returned": "Is it \"returned\"?",
    }  # fmt: skip
    return {
        "plain": (orders(), Choices()),
        "text times": (_with(ordered_at=lambda t: t["ordered_at"].dt.strftime("%d.%m.%Y %H:%M")), Choices()),
        "times of several zones": (
            _with(ordered_at=lambda t: np.where(
                np.arange(len(t)) % 2, t["ordered_at"].dt.tz_convert("Asia/Tokyo").map(lambda m: m.isoformat()),
                t["ordered_at"].map(lambda m: m.isoformat()))), Choices(),
        ),
        "local times": (
            _with(ordered_at=lambda t: t["ordered_at"].dt.tz_localize(None)), Choices(zone="America/New_York"),
        ),
        "epoch seconds": (_with(ordered_at=lambda t: t["ordered_at"].astype("int64") // 10**9), Choices()),
        "epoch milliseconds": (_with(ordered_at=lambda t: t["ordered_at"].astype("int64") // 10**6), Choices()),
        "days alone": (_with(ordered_at=lambda t: days.strftime("%Y-%m-%d")), Choices()),
        "days as numbers": (_with(ordered_at=lambda t: days.strftime("%Y%m%d").astype("int64")), Choices()),
        "day and hour": (
            _with(ordered_at=lambda t: t["ordered_at"].dt.strftime("%Y-%m-%d"), hour=lambda t: t["ordered_at"].dt.hour),
            Choices(),
        ),
        "year, month, day": (
            orders().assign(Year=days.year, Month=days.month, Day=days.day).drop(columns="ordered_at"), Choices(),
        ),
        "no times": (
            orders().drop(columns="ordered_at"),
            Choices(start=datetime(2024, 1, 1, tzinfo=UTC), step=timedelta(minutes=7)),
        ),
        "numbered rows": (
            orders().drop(columns="ordered_at").assign(n=np.arange(ROWS, dtype="int32") * 50),
            Choices(time="n", start=datetime(2024, 1, 1, tzinfo=UTC), step=timedelta(seconds=90)),
        ),
        "yes and no": (_with(returned=lambda t: t["returned"].map({1: "Yes", 0: "No"})), Choices()),
        "minus one and one": (_with(returned=lambda t: 2 * t["returned"] - 1), Choices()),
        "true and false": (_with(returned=lambda t: t["returned"] == 1), Choices()),
        "true, false and unknown": (
            _with(returned=lambda t: t["returned"].map({1: True, 0: False}).where(np.arange(len(t)) % 7 > 0)),
            Choices(),
        ),
        "unknown labels": (_with(returned=lambda t: t["returned"].where(np.arange(len(t)) % 5 > 0)), Choices()),
        "one of several texts": (
            _with(returned=lambda t: np.where(t["returned"] == 1, "sent back", t["pieces"].map("kept {}".format))),
            Choices(label="returned", positive="Sent back"),
        ),
        "a number as label": (
            _with(score=lambda t: t["returned"] * 10 + t["pieces"] / 10), Choices(label="score", above=5),
        ),
        "a label's own time": (
            _with(closed_at=lambda t: t["ordered_at"] + pd.to_timedelta(5 + t["pieces"] * 11, unit="min")), Choices(),
        ),
        "booleans and gaps": (
            _with(
                gift=lambda t: t["price"] > 40, weight=_sparse_numbers,
                coupon=lambda t: np.where(t["price"] > 60, "A'B", None),
                limit=lambda t: t["price"].replace(t["price"].max(), np.inf),
            ), Choices(),
        ),
        "many ids": (_with(customer_id=lambda t: np.random.default_rng(2).integers(0, 100_000, len(t))), Choices()),
        "long ids": (_with(customer_id=lambda t: 2**60 + t["pieces"]), Choices()),
        "ids with gaps": (_with(customer_id=lambda t: (t["price"] // 4).where(t["pieces"] < 8)), Choices()),
        "ids with zeros before": (_with(store_code=lambda t: t["pieces"].map("{:04d}".format)), Choices()),
        "constant columns": (_with(currency=lambda t: "EUR", rate=lambda t: 1.0, empty=lambda t: np.nan), Choices()),
        "numbers with stray texts": (
            _with(price=lambda t: t["price"].astype(object).where(np.arange(len(t)) % 90 > 0, "n/a")), Choices(),
        ),
        "categories": (_with(shop=lambda t: t["shop"].astype("category")), Choices()),
        "names that are reserved": (
            orders().rename(columns={"price": "score", "pieces": "entity", "shop": "key", "returned": "label"}),
            Choices(),
        ),
        "names of features": (orders().rename(columns={"price": "hour", "pieces": "weekday"}), Choices()),
        "names in other scripts": (orders().rename(columns=names), Choices()),
        "long texts and names": (
            _with(shop=lambda t: t["shop"] * 14).rename(columns={"price": "price " * 22}), Choices(entities=("shop",)),
        ),
        "no key": (orders().drop(columns="shop"), Choices()),
        "shuffled": (orders().sample(frac=1, random_state=3), Choices()),
        "wide": (_wide(), Choices()),
    }  # fmt: skip
