"""Batch views appear online at once and whole, whatever is killed in between, and newest rows win."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core.clock import SystemClock, to_us
from core.errors import DataError, Unavailable, UseCaseError
from core.use_case import EventSource, Field, History, Label, UseCase
from features.batch.materialization import Publication, materialize_view, restore
from features.definitions import BatchView, CsvTable, FeatureSet, ParquetTable, Table, view_digest
from features.offline.log import OfflineLog
from features.online.reader import Assembled, FeatureReader
from features.streams import Keys
from features.tables import TableAccess

START = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = Keys("batch")
SHOP = Field(name="shop", dtype="str", nullable=True, example="a")
TILL = Field(name="till", dtype="int", example=1)
SALES = EventSource(name="sales", fields=(SHOP, TILL, Field(name="amount", dtype="float")))


def use_case_of(*views: BatchView) -> UseCase:
    return UseCase(
        name="shops", description="", entities=(SHOP, TILL), request=(), sources=(SALES,), features=FeatureSet(views),
        label=Label(name="sold", horizon=HOUR, known_only_after=()),
        estimator=lambda columns: None,  # type: ignore[arg-type,return-value]
        history=lambda folder: History(pd.DataFrame(), pd.DataFrame(), {}),
    )  # fmt: skip


def table_view(table: Table | None = None, **changes: Any) -> BatchView:
    declared: dict[str, Any] = {
        "name": "rating", "entity": "shop", "source": table or ParquetTable(path="ratings.parquet", at="at"),
        "outputs": ("stars", "votes"), "defaults": (-1.0, -2.0), "ttl": timedelta(days=2),
    }  # fmt: skip
    return BatchView(**(declared | changes))


def rating(shop: str | None, hours: float, stars: Any, votes: Any = 1.0) -> dict[str, Any]:
    return {"shop": shop, "at": START + hours * HOUR, "stars": stars, "votes": votes}


class Shop:
    """A table, an offline log and an online store of one view."""

    def __init__(
        self, client: redis.Redis, folder: Path, view: BatchView | None = None, *, partitions: int = 3
    ) -> None:
        self.client, self.folder, self.view = client, folder, view or table_view()
        self.use_case, self.partitions = use_case_of(self.view), partitions
        self.log = OfflineLog(folder / "offline")
        self.digest = view_digest("shops", self.view)
        self.reader = FeatureReader(self.use_case, client, "batch", partitions)

    def put(self, *rows: dict[str, Any]) -> None:
        pd.DataFrame(list(rows)).to_parquet(self.folder / "ratings.parquet")

    def run(self, hours: float = 0, *, client: Any = None, log: Any = None, expire: bool = False) -> Publication:
        return materialize_view(
            client or self.client, KEYS, log or self.log, self.use_case, self.view, START + hours * HOUR,
            access=TableAccess(self.folder), partitions=self.partitions, expire=expire,
        )  # fmt: skip

    def ask(self, *shops: str | None, hours: float = 0) -> Assembled:
        at_us = np.full(len(shops), to_us(START + hours * HOUR), dtype=np.int64)
        return self.reader.assemble([{"shop": shop, "till": 1} for shop in shops], at_us)

    def stars(self, *shops: str | None, hours: float = 0) -> list[float]:
        return [float(stars) for stars in self.ask(*shops, hours=hours).matrix[:, 0]]

    def contents(self) -> dict[bytes, bytes | None]:
        return {name: self.client.get(name) for name in sorted(self.client.keys("{batch:*"))}


@pytest.fixture
def shop(redis_client: redis.Redis, tmp_path: Path) -> Shop:
    return Shop(redis_client, tmp_path)


def test_the_first_run_takes_all_history_and_later_ones_only_what_is_new(shop: Shop) -> None:
    shop.put(rating("a", 0, 1.0), rating("a", 2, 2.0), rating("b", 1, 3.0), rating("a", 9, 9.0))
    first = shop.run(hours=5)
    assert (first.rows, shop.stars("a", "b", hours=5)) == (3, [2.0, 3.0])
    assert shop.run(hours=5) == Publication(0, first.generation)
    second = shop.run(hours=9)
    assert (second.rows, shop.stars("a", "b", hours=9)) == (1, [9.0, 3.0])
    assert second.generation > first.generation
    known = shop.ask("a", "b", hours=9)
    assert known.known.tolist() == [[second.generation]] * 2
    assert known.known_views == (f"rating@{shop.digest}",)
    logged = shop.log.batch("shops", "rating", shop.digest)
    assert logged["generation"].tolist() == [first.generation] * 3 + [second.generation]


def test_a_row_counts_once_it_is_known(redis_client: redis.Redis, tmp_path: Path) -> None:
    table = ParquetTable(path="ratings.parquet", at="at", known_after=2 * HOUR)
    shop = Shop(redis_client, tmp_path, table_view(table))
    shop.put(rating("a", 0, 1.0), rating("a", 4, 2.0))
    assert (shop.run(hours=5).rows, shop.stars("a", hours=5)) == (1, [1.0])
    assert shop.run(hours=5.9).rows == 0
    assert (shop.run(hours=6).rows, shop.stars("a", hours=6)) == (1, [2.0])
    logged = shop.log.batch("shops", "rating", shop.digest)
    assert (logged["known_at"] - logged["at"]).unique().tolist() == [pd.Timedelta(hours=2)]


def test_an_older_row_never_replaces_a_newer_one(shop: Shop) -> None:
    generations = []
    for generation, (hours, stars) in enumerate([(5, 5.0), (3, 3.0), (5, 6.0)], start=1):
        frame = pd.DataFrame([rating("a", hours, stars) | {"entity": "a"}])
        frame["known_at"] = frame["at"]
        shop.log.write_generation("shops", "rating", shop.digest, generation, frame.drop(columns="shop"))
        shop.put(rating("b", 0, 0.0))
        shop.run(hours=-1)  # brings no row of its own
        generations.append(shop.stars("a", hours=5)[0])
    assert generations == [5.0, 5.0, 6.0]
    assert shop.ask("a").known.tolist() == [[3]]


def test_unknown_stale_and_null_values_become_defaults(shop: Shop) -> None:
    shop.put(rating("a", 0, None, 7.0), rating("old", -50, 4.0))
    shop.run()
    got = shop.ask("a", "old", "nobody", None, "a")
    assert got.matrix.tolist() == [[-1.0, 7.0], [-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0], [-1.0, 7.0]]
    unknown = ["rating: unknown entity"]
    assert got.degraded == [[], ["rating: stale"], unknown, unknown, []]
    assert shop.ask("a", hours=48).degraded == [[]]
    assert shop.ask("a", hours=48.01).degraded == [["rating: stale"]]


def test_timeless_rows_are_read_anew_and_only_changes_are_kept(redis_client: redis.Redis, tmp_path: Path) -> None:
    shop = Shop(redis_client, tmp_path, table_view(ParquetTable(path="ratings.parquet", at=None)))
    shop.put(rating("a", 0, 1.0), rating("b", 0, None), rating(None, 0, 1.0))
    assert shop.run(expire=True) == Publication(2, shop.ask("a").known[0, 0], dropped=1)
    assert shop.run().rows == 0
    shop.put(rating("a", 0, 2.0), rating("b", 0, None))
    assert (shop.run().rows, shop.stars("a", "b", hours=1e5)) == (1, [2.0, -1.0])
    assert {redis_client.ttl(name) for name in shop.contents()} == {-1}


def test_computed_from_events_by_several_keys(redis_client: redis.Redis, tmp_path: Path) -> None:
    def mean(events: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
        assert list(events.columns) == ["id", "at", "known_at", "shop", "till", "amount"]
        return events.groupby(["shop", "till"]).agg(mean=("amount", "mean"))

    view = table_view(name="takings", source="sales", entity=("shop", "till"), outputs=("mean",), defaults=(0.0,),
                      compute=mean)  # fmt: skip
    shop = Shop(redis_client, tmp_path, view)
    at = pd.to_datetime([START] * 3).astype("datetime64[us, UTC]")
    events = pd.DataFrame({"id": ["1", "2", "3"], "at": at, "known_at": at, "position": [1, 2, 3], "row": 0, "by": "",
                           "shop": ["a", "a", "b"], "till": [1, 1, 2], "amount": [1.0, 2.0, 7.0]})  # fmt: skip
    assert shop.run().rows == 0
    shop.log.write("log-0", 3, {"events/sales": events})
    assert (shop.run(hours=1).rows, shop.stars("a", "b", hours=1)) == (2, [1.5, 0.0])
    assert shop.run(hours=2).rows == 2


BROKEN = [
    ([{"shop": "a", "at": START, "stars": 1.0}], "'votes'"),
    ([{"at": START, "stars": 1.0, "votes": 1.0}], "'shop'"),
    ([{"shop": "a", "stars": 1.0, "votes": 1.0}], "'at'"),
    ([rating("a", 0, float("inf"))], "'stars' = inf"),
    ([rating("a", 0, 1e300)], "'stars' = 1e"),
    ([rating("a", 0, "five")], "'stars' of type"),
    ([rating("a", 0, 1.0), rating("a", 0, 2.0)], "shop = 'a' twice at 2020-01-01"),
    ([rating("a", 0, 1.0) | {"at": None}], "'at'.*null"),
    ([rating("a", 0, 1.0) | {"at": 7}], "'at'.*no moment"),
    ([rating("a", 0, 1.0) | {"at": "soon"}], "'at'.*no moment"),
]


@pytest.mark.parametrize(("rows", "named"), BROKEN, ids=[named for _, named in BROKEN])
def test_what_cannot_be_kept_is_refused_by_name_and_changes_nothing(
    shop: Shop, rows: list[dict[str, Any]], named: str
) -> None:
    shop.put(*rows)
    with pytest.raises(DataError, match=f"'rating'.*{named}"):
        shop.run(hours=1)
    assert shop.log.generations("shops", "rating", shop.digest) == []
    assert shop.contents() == {}


def test_a_computation_that_breaks_its_promise_is_refused(redis_client: redis.Redis, tmp_path: Path) -> None:
    faults = {
        "'votes'": lambda rows, as_of: rows[["stars"]],
        "other rows": lambda rows, as_of: rows.iloc[:1],
        "'stars' = inf": lambda rows, as_of: rows.assign(stars=np.inf),
    }
    for named, compute in faults.items():
        shop = Shop(redis_client, tmp_path, table_view(compute=compute))
        shop.put(rating("a", 0, 1.0), rating("b", 0, 1.0))
        with pytest.raises(UseCaseError, match=f"'rating'.*{named}"):
            shop.run()


def test_keys_are_as_requests_name_them(redis_client: redis.Redis, tmp_path: Path) -> None:
    shop = Shop(redis_client, tmp_path, table_view(CsvTable(path="ratings.csv", at="at")))
    (tmp_path / "ratings.csv").write_text(
        "shop,at,stars,votes\n007,2020-01-01 00:00:00,4,1\nNA,2020-01-01,3,2\n,2020-01-01,1,NA\nü:{x},2020-01-01,2,NA\n"
    )
    done = shop.run()
    assert (done.rows, done.dropped) == (3, 1)
    assert shop.ask("007", "NA", "ü:{x}", "7").matrix.tolist() == [[4, 1], [3, 2], [2, -2], [-1, -2]]
    tills = Shop(redis_client, tmp_path, table_view(entity="till"))
    pd.DataFrame({"till": [1.0, None], "at": START, "stars": 5.0, "votes": 1.0}).to_parquet(
        tmp_path / "ratings.parquet"
    )
    assert (tills.run().dropped, tills.stars("x")) == (1, [5.0])
    pd.DataFrame({"till": [1.5], "at": START + HOUR, "stars": 5.0, "votes": 1.0}).to_parquet(
        tmp_path / "ratings.parquet"
    )
    with pytest.raises(DataError, match=r"'till' = 1\.5"):
        tills.run(hours=1)


def test_rows_expire_with_their_time_to_live(redis_client: redis.Redis, tmp_path: Path) -> None:
    shop, now = Shop(redis_client, tmp_path), SystemClock().now()
    since_start = (now - START) / HOUR
    shop.put(rating("a", since_start - 24, 1.0), rating("gone", since_start - 24 * 5, 1.0))
    shop.run(hours=since_start, expire=True)
    ((name, _),) = shop.contents().items()
    left = timedelta(seconds=redis_client.ttl(name))  # type: ignore[arg-type]
    assert timedelta(days=3) < left <= timedelta(days=3, hours=1)  # of two days alive and two more, one is over
    assert shop.ask("gone", hours=since_start).degraded == [["rating: unknown entity"]]


class Faulty:
    """Stands before a client or log and raises at the n-th call that reads or writes, before or after it is done."""

    class Stop(BaseException):
        """Like a kill: no handler may catch it."""

    def __init__(self, inner: Any, plan: dict[str, int], *, is_after: bool) -> None:
        self._inner, self._plan, self._is_after = inner, plan, is_after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("pipeline", "published"):
            return lambda *args, **options: Faulty(found(*args, **options), self._plan, is_after=self._is_after)
        if name not in ("get", "hget", "hset", "mget", "eval", "execute", "write"):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._plan["left"] -= 1
            if self._plan["left"] == 0 and not self._is_after:
                raise Faulty.Stop
            result = found(*args, **options)
            if self._plan["left"] == 0:
                raise Faulty.Stop
            return result

        return call

    def __enter__(self) -> Faulty:
        self._inner.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._inner.__exit__(*raised)


def _crashes() -> Iterator[tuple[int, bool]]:
    for step in range(1, 60):
        yield from ((step, False), (step, True))


def test_killed_at_any_step_nothing_is_half_visible_and_a_later_run_converges(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    before = [rating("a", 0, 1.0), rating("b", 0, 1.0), rating("stays", 0, 1.0)]
    after = [*before, rating("a", 2, 2.0), rating("b", 2, 2.0), rating("new", 2, 2.0)]
    ended = False
    for step, is_after in _crashes():
        redis_client.flushdb()
        folder = tmp_path / f"{step}{is_after}"
        folder.mkdir()
        shop, plan = Shop(redis_client, folder), {"left": step}
        shop.put(*before)
        shop.run(hours=1)
        shop.put(*after)
        try:
            client, log = (Faulty(inner, plan, is_after=is_after) for inner in (redis_client, shop.log))
            shop.run(hours=3, client=client, log=log)
            ended = True
        except Faulty.Stop:
            pass
        assert shop.stars("a", "b", "new", "stays", hours=3) in ([1.0, 1.0, -1.0, 1.0], [2.0, 2.0, 2.0, 1.0])
        shop.run(hours=3)
        assert shop.stars("a", "b", "new", "stays", hours=3) == [2.0, 2.0, 2.0, 1.0]
        _check_settled(shop)
        if ended:
            break
    assert ended


def _check_settled(shop: Shop) -> None:
    """One version per entity, and what a restore from the log alone gives, byte for byte."""
    before = shop.contents()
    assert {len(value or b"") for value in before.values()} == {16 + 4 * 2}
    shop.client.flushdb()
    restore(shop.client, KEYS, shop.log, shop.use_case, shop.view, partitions=shop.partitions, expire=False)
    assert shop.contents() == before


def test_readers_see_each_refresh_whole(redis_client: redis.Redis, tmp_path: Path) -> None:
    shop, names = Shop(redis_client, tmp_path), [f"s{i}" for i in range(300)]
    seen: list[list[tuple[float, int]]] = [[], []]
    done, look, faults = threading.Event(), threading.Condition(), []

    def read(mine: list[tuple[float, int]]) -> None:
        reader = FeatureReader(shop.use_case, redis_client, "batch", shop.partitions)
        instances = [{"shop": name, "till": 1} for name in names]
        at_us = np.full(len(names), to_us(START + HOUR), dtype=np.int64)
        while not done.is_set():
            got = reader.assemble(instances, at_us)
            stars, known = set(got.matrix[:, 0].tolist()), set(got.known[:, 0].tolist())
            if len(stars) != 1 or len(known) != 1:
                faults.append((stars, known))
            mine.append((stars.pop(), known.pop()))
            with look:
                look.notify()

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    try:
        for refresh in range(12):
            shop.put(*(rating(name, refresh / 100, float(refresh)) for name in names))
            shop.run(hours=refresh / 100)
            with look:  # until both readers have seen it
                assert look.wait_for(lambda: all(mine and mine[-1][0] == refresh for mine in seen), timeout=30)  # noqa: B023
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert faults == []
    pairs = {pair for mine in seen for pair in mine}
    assert len(pairs) == len({stars for stars, _ in pairs})  # a generation always means the same values


def test_two_publishers_take_turns(shop: Shop) -> None:
    shop.put(rating("a", 0, 1.0), rating("b", 0, 2.0))
    done: list[Publication] = []
    threads = [threading.Thread(target=lambda: done.append(shop.run())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(publication.rows for publication in done) == [0, 0, 2]
    assert shop.stars("a", "b") == [1.0, 2.0]


def test_redis_emptied_while_publishing_is_noticed_and_made_good(shop: Shop) -> None:
    class Emptying(Faulty):
        def __getattr__(self, name: str) -> Any:
            if name == "eval":
                shop.client.flushdb()
            return getattr(self._inner, name)

    shop.put(rating("a", 0, 1.0))
    shop.run()
    shop.put(rating("a", 0, 1.0), rating("b", 1, 2.0))
    with pytest.raises(Unavailable, match="shops/rating is no longer at"):
        shop.run(hours=1, client=Emptying(shop.client, {}, is_after=False))
    assert shop.stars("a", "b", hours=1) == [-1.0, -1.0]
    shop.run(hours=1)
    assert shop.stars("a", "b", hours=1) == [1.0, 2.0]
    _check_settled(shop)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.sampled_from("abc"), st.integers(0, 40), st.sampled_from([None, 1.5, 2.5, -3.0])),
        st.tuples(st.just("run"), st.integers(0, 60)),
        st.tuples(st.just("crash"), st.integers(1, 14)),
        st.tuples(st.just("restore"), st.none()),
    ),
    max_size=12,
)


@given(moves=moves)
def test_what_is_served_is_the_newest_row_of_the_generations_known(
    redis_client: redis.Redis, moves: list[tuple[Any, ...]]
) -> None:
    redis_client.flushdb()
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(redis_client, Path(folder), partitions=2)
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        latest = 0
        for move in moves:
            if move[0] == "row":
                rows.setdefault((move[1], latest + move[2]), rating(move[1], latest + move[2], move[3]))
            elif move[0] == "restore":
                restore(redis_client, KEYS, shop.log, shop.use_case, shop.view, partitions=2, expire=False)
            elif rows:
                shop.put(*rows.values())
                latest = latest + move[1] if move[0] == "run" else latest
                plan = {"left": move[1] if move[0] == "crash" else 10**6}
                client, log = (Faulty(inner, plan, is_after=True) for inner in (redis_client, shop.log))
                with contextlib.suppress(Faulty.Stop):
                    shop.run(hours=latest, client=client, log=log)
            _check_against_log(shop, float(latest))


def _check_against_log(shop: Shop, hours: float) -> None:
    got = shop.ask("a", "b", "c", hours=hours)
    logged = shop.log.batch("shops", "rating", shop.digest)
    for i, name in enumerate("abc"):
        mine = logged[(logged["entity"] == name) & (logged["generation"] <= got.known[i, 0])] if len(logged) else logged
        expected = -1.0
        if len(mine):
            row = mine.sort_values(["at", "generation"]).iloc[-1]
            is_alive = START + hours * HOUR - row["at"] <= shop.view.ttl
            expected = row["stars"] if is_alive and not np.isnan(row["stars"]) else -1.0
        assert got.matrix[i, 0] == np.float32(expected)
