"""Tables are read alike from Parquet, CSV, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest
import redis
import sqlalchemy as sa

from core.errors import DataError
from core.use_case import Field, History, Label, UseCase
from features.batch.materialization import materialize_view
from features.definitions import BatchView, CsvTable, FeatureSet, ParquetTable, SqlQuery, Table, view_digest
from features.offline.log import OfflineLog
from features.streams import Keys
from features.tables import TableAccess, Wanted
from tests.postgres_process import postgres_url

START = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROWS = [("007", -2.0, 1.5, 3), ("a", 0.0, None, None), ("a", 1.5, 2.5, 4), (None, 0.0, 1.0, 1)]
QUERY = "SELECT place, happened_at AS at, heat, visits AS seen FROM readings"
PLACE = Field(name="place", dtype="str", example="a")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_url(tmp_path_factory.mktemp("postgres")) as url:
        yield url


def fill(url: str, *, has_zone: bool) -> str:
    engine = sa.create_engine(url)
    table = sa.Table(
        "readings", sa.MetaData(), sa.Column("place", sa.String), sa.Column("heat", sa.Numeric(10, 2)),
        sa.Column("happened_at", sa.DateTime(timezone=has_zone)), sa.Column("visits", sa.Integer),
    )  # fmt: skip
    with engine.begin() as connection:
        table.drop(connection, checkfirst=True)
        table.create(connection)
        for place, hours, heat, visits in ROWS:
            at = START + hours * HOUR
            values = {"place": place, "heat": heat, "visits": visits, "happened_at": at if has_zone else _naive(at)}
            connection.execute(table.insert().values(**values))
    engine.dispose()
    return url


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def frame_of(at: list[object]) -> pd.DataFrame:
    place, _, heat, visits = zip(*ROWS, strict=True)
    return pd.DataFrame({"place": place, "at": at, "heat": heat, "visits": visits})


KINDS = ["parquet", "parquet folder", "parquet, naive", "parquet, other zone", "csv", "csv, ISO", "sqlite",
         "postgresql", "postgresql, naive", "postgresql, :since"]  # fmt: skip


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Table, TableAccess]:
    """The same rows, kept in ten ways."""
    kind: str = request.param
    moments = [START + hours * HOUR for _, hours, _, _ in ROWS]
    rename = {"visits": "seen"}
    if kind.startswith("postgresql"):
        url = fill(request.getfixturevalue("postgres"), has_zone="naive" not in kind)
        window = " WHERE happened_at > :since AND happened_at <= :until AND place::text <> ':since'"
        query = QUERY + (window if kind.endswith(":since") else "")
        return SqlQuery(database="lake", query=query, at="at"), TableAccess(tmp_path, {"lake": url})
    if kind == "sqlite":
        url = fill(f"sqlite:///{tmp_path / 'lake.db'}", has_zone=False)
        query = f"{QUERY} WHERE at > :since"
        return SqlQuery(database="lake", query=query, at="at"), TableAccess(tmp_path, {"lake": url})
    if kind.startswith("csv"):
        moments_text = [m.isoformat() if "ISO" in kind else f"{_naive(m):%Y-%m-%d %H:%M:%S}" for m in moments]
        frame_of(list(moments_text)).to_csv(tmp_path / "t.csv", index=False)
        return CsvTable(path="t.csv", at="at", rename=rename), TableAccess(tmp_path)
    if "naive" in kind:
        moments = [_naive(m) for m in moments]
    elif "zone" in kind:
        moments = [m.astimezone(timezone(timedelta(hours=-5))) for m in moments]
    frame, path = frame_of(list(moments)), "t" if "folder" in kind else "t.parquet"
    if "folder" in kind:
        (tmp_path / "t").mkdir()
        frame[:2].to_parquet(tmp_path / "t" / "1.parquet")
        frame = frame[2:]
    frame.to_parquet(tmp_path / path / "2.parquet" if "folder" in kind else tmp_path / path)
    return ParquetTable(path=path, at="at", rename=rename), TableAccess(tmp_path)


def use_case_of(table: Table) -> UseCase:
    view = BatchView(
        name="place", entity="place", source=table, outputs=("heat", "seen"), defaults=(0.0, 0.0), ttl=24 * HOUR
    )
    return UseCase(
        name="places", description="", entities=(PLACE,), request=(), sources=(), features=FeatureSet((view,)),
        label=Label(name="sold", horizon=HOUR, known_only_after=()),
        estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
        history=lambda folder: History(pd.DataFrame(), pd.DataFrame(), {}),
    )  # fmt: skip


def test_rows_are_the_same_from_everywhere(
    redis_client: redis.Redis, tmp_path: Path, source: tuple[Table, TableAccess]
) -> None:
    use_case, log = use_case_of(source[0]), OfflineLog(tmp_path / "offline")
    (view,) = use_case.features.batch_views  # type: ignore[attr-defined]
    done = [
        materialize_view(redis_client, Keys("tables"), log, use_case, view, START + hours * HOUR, access=source[1])
        for hours in (0, 0.5, 1.5)
    ]
    assert [publication.rows for publication in done] == [2, 0, 1]
    assert done[0].dropped in (0, 1)  # the query with :since leaves the null place out itself
    kept = log.batch("places", "place", view_digest("places", view))
    assert kept["entity"].tolist() == ["007", "a", "a"]
    assert kept["at"].tolist() == [START - 2 * HOUR, START, START + 1.5 * HOUR]
    assert kept["heat"].fillna(-1).tolist() == [1.5, -1, 2.5]
    assert kept["seen"].fillna(-1).tolist() == [3, -1, 4]


def test_parquet_leaves_out_while_reading_what_is_not_wanted(tmp_path: Path) -> None:
    frame_of([START + hours * HOUR for hours in range(4)]).to_parquet(tmp_path / "t.parquet")
    table = ParquetTable(path="t.parquet", at="moment", rename={"at": "moment"})
    wanted = Wanted(since=START, until=START + 2 * HOUR)
    assert table.read(TableAccess(tmp_path), wanted)["moment"].tolist() == [START + HOUR, START + 2 * HOUR]
    assert len(table.read(TableAccess(tmp_path))) == 4


FAULTS: list[tuple[Table, str]] = [
    (ParquetTable(path="none.parquet", at="at"), "none.parquet cannot be read.*Check its path"),
    (ParquetTable(path="broken.parquet", at="at"), "broken.parquet cannot be read"),
    (CsvTable(path="none.csv", at="at"), "none.csv cannot be read"),
    (CsvTable(path="broken.parquet", at="at", rename={"x": "y"}), "cannot be read|no column 'x'"),
    (ParquetTable(path="t.parquet", at="at", rename={"x": "y"}), "has no column 'x' to rename. It has: place"),
    (SqlQuery(database="lake", query="SELECT 1", at=None), "no database 'lake'; known: other. Add it to EVERGREEN_"),
    (SqlQuery(database="other", query="SELECT * FROM nowhere", at=None), "query to 'other' failed.*nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "message"), FAULTS, ids=[str(i) for i in range(len(FAULTS))])
def test_what_cannot_be_read_is_named_with_the_remedy(tmp_path: Path, table: Table, message: str) -> None:
    frame_of([START] * 4).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1\xff\x00nothing")
    with pytest.raises(DataError, match=message):
        table.read(TableAccess(tmp_path, {"other": f"sqlite:///{tmp_path / 'other.db'}"}))


def test_a_password_is_not_in_what_identifies_a_query() -> None:
    assert SqlQuery(database="lake", query="SELECT 1", at=None, rename={"b": "c", "a": "b"}).spec() == {
        "kind": "sql", "database": "lake", "query": "SELECT 1", "at": None, "known_after_s": 0.0,
        "rename": {"a": "b", "b": "c"},
    }  # fmt: skip
