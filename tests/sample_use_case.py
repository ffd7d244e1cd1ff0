"""A small use case for tests: one entity, one of each kind of view."""

from datetime import datetime, timedelta

import pandas as pd

from core.use_case import EventSource, Field, History, Label, Policy, UseCase
from features.definitions import Aggregate, BatchView, FeatureSet, RequestView, WindowView

SHOP = Field(name="shop", dtype="str", example="a")
AMOUNT = Field(name="amount", dtype="float", nullable=True, example=1.5)
SALES = EventSource(name="sales", fields=(SHOP, AMOUNT))


def shop_profile(events: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    return events.groupby("shop").agg(mean=("amount", "mean")).fillna(0.0)


def sample_use_case(name: str = "sample") -> UseCase:
    """A fresh declaration."""
    views = (
        RequestView(
            name="size",
            inputs=("amount", "at"),
            outputs=("amount", "hour"),
            compute=lambda c: {"amount": c["amount"], "hour": c["at"] // 3_600_000_000 % 24},
        ),
        WindowView(
            name="recent",
            entity="shop",
            source="sales",
            tile=timedelta(hours=1),
            windows=(timedelta(hours=2), timedelta(hours=5)),
            lateness=timedelta(hours=3),
            aggregates=(
                Aggregate(name="sales", kind="count"),
                Aggregate(name="total", kind="sum", field="amount"),
                Aggregate(name="mean", kind="mean", field="amount", default=-1.0),
            ),
        ),
        BatchView(
            name="profile",
            entity="shop",
            source="sales",
            outputs=("mean",),
            defaults=(0.5,),
            ttl=timedelta(hours=30),
            lookback=timedelta(days=2),
            compute=shop_profile,
        ),
    )
    return UseCase(
        name=name,
        description="Will it sell?",
        entities=(SHOP,),
        request=(AMOUNT,),
        sources=(SALES,),
        features=FeatureSet(views),
        label=Label(name="sold", horizon=timedelta(hours=1), known_only_after=("receipt",)),
        estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
        history=lambda folder: History(pd.DataFrame(), pd.DataFrame(), {}),
        policy=Policy(min_rows=10, holdout_rows=5),
    )
