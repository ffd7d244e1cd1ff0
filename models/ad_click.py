"""Will this ad impression be clicked?

The data (data/criteo_attribution, CC BY-NC-SA 4.0, non-commercial) has the true order of the impressions but no
clock: time is taken to run evenly over the 30 days from 1 January 2017, by row number in the full data set. It has no
time of the click either: whether there was one is taken to be known 30 minutes after the impression.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.model_tests import Direction, Minimum, Slice
from core.torch_classifier import TorchClassifier, TorchTraining
from core.use_case import Classifier, EventSource, Field, History, Label, Policy, ReplaySpan, UseCase
from features.definitions import Aggregate, BatchView, Columns, FeatureSet, RequestView, WindowView

if TYPE_CHECKING:
    import torch

START = datetime(2017, 1, 1, tzinfo=UTC)
SPAN_MS = 30 * 86_400_000
ROWS_IN_FULL_DATA_SET = 16_468_027
CLICK_KNOWN_AFTER = timedelta(minutes=30)
BUCKETS = 509  # a prime that keeps all categories seen apart; unseen ones share a bucket with one of them
BASE_RATE = 0.36

_EXAMPLES = {"cat1": 30763035, "cat4": 29196072, "cat6": 1973606, "cat8": 29196072, "cat9": 8661620}
_CATEGORIES = tuple(_EXAMPLES)

categories = tuple(
    Field(
        name=name, dtype="int", ge=0, le=2**31 - 1, example=example, description="anonymised category of context or ad"
    )
    for name, example in _EXAMPLES.items()
)

impressions = EventSource(
    name="ad_impressions",
    description="One event per impression, when it is known whether it was clicked.",
    fields=(*categories, Field(name="click", dtype="int", ge=0, le=1, description="1 if clicked")),
)


def category_codes(c: Columns) -> Columns:
    """Rows of the embedding tables: the raw categories exceed what a float32 holds exactly."""
    return {f"{name}_code": c[name] % BUCKETS for name in _CATEGORIES}


def clicks_of(category: str) -> WindowView:
    """How often impressions of a category were shown and clicked lately."""
    return WindowView(
        name=category,
        entity=category,
        source="ad_impressions",
        tile=timedelta(hours=1),
        windows=(timedelta(hours=6), timedelta(days=1), timedelta(days=3)),
        aggregates=(
            Aggregate(name="shown", kind="count"),
            Aggregate(name="click_rate", kind="mean", field="click", default=BASE_RATE),
        ),
        lateness=timedelta(hours=6),
    )


def long_run(category: str) -> BatchView:
    """The click rate of a category over weeks, drawn towards the base rate where it was shown little."""

    def compute(events: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
        clicks = events.groupby(category)["click"]
        rate = (clicks.sum() + 50 * BASE_RATE) / (clicks.size() + 50)
        return pd.DataFrame({"click_rate": rate, "share": clicks.size() / len(events)})

    return BatchView(
        name=f"{category}_long_run",
        entity=category,
        source="ad_impressions",
        outputs=("click_rate", "share"),
        defaults=(BASE_RATE, 0.0),
        ttl=timedelta(days=8),
        lookback=timedelta(days=21),
        compute=compute,
    )


def network(codes: int) -> Callable[[int], "torch.nn.Module"]:
    """Makes a network that embeds the first `codes` columns and joins them with the others."""

    def build(columns: int) -> "torch.nn.Module":
        import torch

        class AdClick(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
            def __init__(self) -> None:
                super().__init__()
                self.embeddings = torch.nn.ModuleList(torch.nn.Embedding(BUCKETS, 8) for _ in range(codes))
                self.layers = torch.nn.Sequential(
                    torch.nn.Linear(8 * codes + columns - codes, 64),
                    torch.nn.ReLU(),
                    torch.nn.Dropout(0.1),
                    torch.nn.Linear(64, 32),
                    torch.nn.ReLU(),
                    torch.nn.Linear(32, 1),
                )

            def forward(self, rows: Any) -> Any:
                index = rows[:, :codes].long()
                embedded = [table(index[:, i]) for i, table in enumerate(self.embeddings)]
                return self.layers(torch.cat([*embedded, rows[:, codes:]], dim=1)).squeeze(1)

        return AdClick()

    return build


def estimator(columns: tuple[str, ...]) -> Classifier:
    """Embeddings and a small network; the codes come first among the columns."""
    codes = tuple(i for i, name in enumerate(columns) if name.endswith("_code"))
    training = TorchTraining(epochs=15, batch_rows=512, learning_rate=5e-4, weight_decay=1e-2)
    return TorchClassifier(network(len(codes)), codes=codes, training=training)


def history(data_dir: Path) -> History:
    """Impressions as questions; clicks, or their absence, as labels and events."""
    table = pd.read_parquet(data_dir / "criteo_attribution" / "impressions.parquet")
    table = table.sort_values("row_index").reset_index(drop=True)
    at = _moments(table["row_index"].to_numpy())
    key = pd.Series("imp-" + table["row_index"].astype(str).str.zfill(8), dtype=object)
    fields = table[list(_CATEGORIES)].astype("int64")
    click = table["click"].astype("int64")
    return History(
        requests=pd.DataFrame({"key": key, "at": at}).join(fields),
        labels=pd.DataFrame({"key": key, "label": click, "at": at + CLICK_KNOWN_AFTER}),
        events={impressions.name: fields.assign(click=click, id=key, at=at + CLICK_KNOWN_AFTER)},
    )


def _moments(row_index: npt.NDArray[Any]) -> pd.Series:
    """Time by row number in the full data set, to the millisecond (rows are 157 ms apart)."""
    elapsed_ms = row_index.astype(np.int64) * SPAN_MS // ROWS_IN_FULL_DATA_SET
    at: pd.Series = pd.Series(pd.Timestamp(START) + pd.to_timedelta(elapsed_ms, unit="ms"))
    return at.astype("datetime64[us, UTC]")


ad_click = UseCase(
    name="ad_click",
    description="Will this ad impression be clicked?",
    entities=categories,
    request=(),
    sources=(impressions,),
    features=FeatureSet(
        (
            RequestView(
                name="codes",
                inputs=_CATEGORIES,
                outputs=tuple(f"{name}_code" for name in _CATEGORIES),
                compute=category_codes,
            ),
            clicks_of("cat6"),
            clicks_of("cat8"),
            clicks_of("cat9"),
            long_run("cat6"),
            long_run("cat9"),
        )
    ),
    label=Label(
        name="clicked",
        description="the impression was clicked",
        horizon=timedelta(hours=1),
        known_only_after=("click",),
    ),
    estimator=estimator,
    history=history,
    policy=Policy(
        training_window=timedelta(days=14),
        holdout_rows=3000,
        min_rows=8000,
        monitor_window=timedelta(days=2),
        monitor_every=timedelta(days=2),
        min_monitor_rows=2000,
        materialize_every=timedelta(days=2),
        retrain_every=timedelta(days=5),
        cooldown=timedelta(days=2),
        segments=("cat1_code",),
    ),
    replay=ReplaySpan(
        start=datetime(2017, 1, 1, tzinfo=UTC),
        first_training=datetime(2017, 1, 6, tzinfo=UTC),
        end=datetime(2017, 1, 31, tzinfo=UTC),
    ),
    categorical=tuple(f"{name}_code" for name in _CATEGORIES),
    tests=(
        Minimum(metric="auc", value=0.6),
        Direction(field="cat8_click_rate_3d", by=0.1, expect="up"),
        Direction(field="cat6_long_run_click_rate", by=0.1, expect="up"),
        Slice(by="cat8_code", max_loss_ratio=1.2),
    ),
)
