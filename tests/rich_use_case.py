"""A use case with every kind of view and aggregate, several keys and a table, for tests of exactness."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd

from core.use_case import EventSource, Field, History, Label, Policy, UseCase
from features.definitions import (
    Aggregate,
    BatchView,
    DerivedView,
    FeatureSet,
    ParquetTable,
    RequestView,
    WindowView,
)

SHOP = Field(name="shop", dtype="str", example="a")
CITY = Field(name="city", dtype="int", nullable=True, example=1)
AMOUNT = Field(name="amount", dtype="float", nullable=True, example=1.5)
BUYER = Field(name="buyer", dtype="str", nullable=True, example="ops")
SALES = EventSource(name="sales", fields=(SHOP, CITY, AMOUNT, BUYER))
PRICES = "prices.parquet"


def shop_profile(events: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    return events.groupby("shop").agg(mean=("amount", "mean"))


def rich_use_case(name: str = "rich") -> UseCase:
    """A fresh declaration; its table is ``prices.parquet`` (shop, at, price, stock) in the data folder."""
    views = (
        RequestView(
            name="size", inputs=("amount", "at"), outputs=("amount", "hour"),
            compute=lambda c: {"amount": c["amount"], "hour": c["at"] // 3_600_000_000 % 24},
        ),
        WindowView(
            name="recent", entity="shop", source="sales", tile=timedelta(hours=1),
            windows=(timedelta(hours=2), timedelta(hours=5)), lateness=timedelta(hours=3),
            aggregates=(
                Aggregate(name="sales", kind="count"),
                *(Aggregate(name=kind, kind=kind, field="amount", default=-1.0)
                  for kind in ("sum", "mean", "min", "max", "last")),
                Aggregate(name="buyers", kind="distinct", field="buyer"),
                Aggregate(name="per_sale", kind="ratio", field="amount"),
            ),
        ),
        WindowView(
            name="corner", entity=("shop", "city"), source="sales", tile=timedelta(minutes=30),
            windows=(timedelta(hours=4),), lateness=timedelta(hours=2),
            aggregates=(
                Aggregate(name="sales", kind="count"),
                Aggregate(name="share", kind="ratio", field="amount", over="city", default=0.5),
            ),
        ),
        WindowView(
            name="town", entity="city", source="sales", tile=timedelta(hours=2), windows=(timedelta(hours=6),),
            lateness=timedelta(hours=3), aggregates=(Aggregate(name="mean", kind="mean", field="amount"),),
        ),
        BatchView(
            name="profile", entity="shop", source="sales", outputs=("mean",), defaults=(0.5,), ttl=timedelta(hours=30),
            lookback=timedelta(days=2), compute=shop_profile,
        ),
        BatchView(
            name="price", entity="shop", source=ParquetTable(path=PRICES, at="at", known_after=timedelta(hours=1)),
            outputs=("price", "stock"), defaults=(9.0, -1.0), ttl=timedelta(hours=12),
        ),
        DerivedView(
            name="gap", inputs=("recent_mean_2h", "price_price", "amount"), outputs=("gap",),
            compute=lambda c: {"gap": c["recent_mean_2h"] * c["price_price"] - c["amount"] / 3},
        ),
    )  # fmt: skip
    return UseCase(
        name=name,
        description="Will it sell?",
        entities=(SHOP, CITY),
        request=(AMOUNT,),
        sources=(SALES,),
        features=FeatureSet(views),
        label=Label(name="sold", horizon=timedelta(hours=1), known_only_after=("receipt",)),
        estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
        history=lambda folder: History(pd.DataFrame(), pd.DataFrame(), {}),
        policy=Policy(min_rows=10, holdout_rows=5),
    )
