"""The benchmark's use case, as its file in ``models/`` would be: copied there, and into the version that is served."""

from __future__ import annotations

from datetime import timedelta

from core.use_case import Field, Label, UseCase
from features.definitions import BatchView, Columns, FeatureSet, ParquetTable, RequestView

_FIELDS = tuple(f"f{i}" for i in range(8))
_TTL = timedelta(days=2)


def _stored(entity: str) -> BatchView:
    return BatchView(
        name=entity,
        entity=entity,
        source=ParquetTable(path=f"{entity}.parquet", at="at"),
        outputs=tuple(f"{entity}_{i:02d}" for i in range(20)),
        defaults=(0.0,) * 20,
        ttl=_TTL,
    )


def _as_sent(columns: Columns) -> Columns:
    return {f"sent_{name}": columns[name] for name in _FIELDS}


USE_CASE = UseCase(
    name="ranker",
    description="Will the user click the ad?",
    entities=(Field(name="user", dtype="int", example=1), Field(name="ad", dtype="int", example=1)),
    request=tuple(Field(name=name, dtype="float", example=0.5) for name in _FIELDS),
    sources=(),
    features=FeatureSet(
        (
            _stored("user"),
            _stored("ad"),
            RequestView(
                name="sent", inputs=_FIELDS, outputs=tuple(f"sent_{name}" for name in _FIELDS), compute=_as_sent
            ),
        )
    ),
    label=Label(name="clicked", horizon=timedelta(hours=1), known_only_after=()),
    estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
    history=lambda folder: None,  # type: ignore[arg-type,return-value]
)
