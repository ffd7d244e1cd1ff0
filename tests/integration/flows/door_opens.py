"""Will the door open? A use case small enough to retrain in a second."""

from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LogisticRegression

from core.use_case import DataCheck, EventSource, Field, History, Label, Policy, UseCase
from features.definitions import BatchView, Columns, FeatureSet, RequestView

door = Field(name="door", dtype="int", ge=0, example=1)


def of_request(columns: Columns) -> Columns:
    return {"push": columns["push"], "pull": columns["pull"]}


def of_door(events: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    return events.groupby("door")[["weight"]].mean()


def no_history(folder: Path) -> History:
    raise NotImplementedError


use_case = UseCase(
    name="door_opens",
    description="Will the door open?",
    entities=(door,),
    request=(Field(name="push", dtype="float", example=0.5), Field(name="pull", dtype="float", example=0.1)),
    sources=(EventSource(name="visits", fields=(door, Field(name="weight", dtype="float"))),),
    features=FeatureSet(
        (
            RequestView(name="hands", inputs=("push", "pull"), outputs=("push", "pull"), compute=of_request),
            BatchView(
                name="profile", entity="door", source="visits", outputs=("weight",), defaults=(0.0,),
                ttl=timedelta(days=30), lookback=timedelta(days=30), compute=of_door,
            ),
        )
    ),
    label=Label(name="opened", horizon=timedelta(hours=1), known_only_after=()),
    estimator=lambda columns: LogisticRegression(),
    history=no_history,
    checks=(DataCheck(name="push is not absurd", keep=lambda rows: rows["push"] < 100),),
    policy=Policy(
        training_window=timedelta(days=20), holdout_rows=300, min_rows=800, min_monitor_rows=200,
        monitor_window=timedelta(days=7), performance_drop=0.1, cooldown=timedelta(days=2),
    ),
)  # fmt: skip
