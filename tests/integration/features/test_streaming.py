"""Workers share the log's partitions, and whatever comes in whatever order leaves the state of the clean log."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.errors import DependencyDown, SettingsError
from core.settings import RedisSettings, Settings
from core.use_case import UseCase
from features.definitions import FeatureSet, feature_set, key_groups, view_digest
from features.offline.log import OfflineLog
from features.online.reader import FeatureReader
from features.streaming import rebuild as rebuild_module
from features.streaming.lag import lag
from features.streaming.partition_store import GROUP, LeaseLost
from features.streaming.rebuild import digest, rebuild
from features.streaming.settling import settle, wait_applied
from features.streaming.worker import StreamWorker
from features.streams import Keys, encode_events, fan_out, position_of
from tests.conftest import find_redis_server
from tests.redis_process import running_redis
from tests.rich_use_case import rich_use_case
from tests.sample_use_case import sample_use_case

T = 1_577_836_800_000_000
HOUR = 3_600_000_000
SHORT_LEASE_S = 0.05
MakeSettings = Callable[..., Settings]


class Streams:
    """Sends events of the rich use case and starts workers for them."""

    def __init__(self, client: redis.Redis, settings: Settings, use_case: UseCase | None = None) -> None:
        self.client, self.settings = client, settings
        self.use_case = use_case or rich_use_case()
        self.keys, self.partitions = Keys(settings.redis.namespace), settings.stream.partitions
        self.log = OfflineLog(settings.offline_dir)

    def worker(self) -> StreamWorker:
        return StreamWorker(self.settings, self.client, {self.use_case.name: self.use_case})

    def send(self, events: list[dict[str, Any]], known_at_us: int = T) -> dict[int, int]:
        positions = {}
        for place, rows in fan_out(key_groups([self.use_case], "sales"), events, self.partitions).items():
            fields = encode_events("sales", place, rows, known_at_us)
            positions[place.partition] = position_of(self.client.xadd(self.keys.log(place.partition), fields))  # type: ignore[arg-type]
        return positions

    def flush(self, worker: StreamWorker) -> None:
        for p in range(self.partitions):
            self.client.xadd(self.keys.log(p), {"kind": "flush"})
        drain(worker)

    def sum_of(self, name: str) -> int:
        return sum(int(self.client.hget(self.keys.counters(p), name) or 0) for p in range(self.partitions))  # type: ignore[arg-type]

    def digest(self) -> str:
        return digest(self.client, self.keys, self.partitions)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what other threads do, or for leases that run out, in blocking calls to Redis."""
        for _ in range(2000):
            if holds():
                return
            self.client.blpop([f"{{{self.keys.namespace}}}:nothing"], timeout=0.01)
        raise AssertionError("it never came to hold")


@pytest.fixture
def streams(client: redis.Redis, settings: MakeSettings) -> Callable[..., Streams]:
    def make(use_case: UseCase | None = None, **stream: object) -> Streams:
        return Streams(client, settings(**({"flush_every_s": 1000} | stream)), use_case)

    return make


def drain(worker: StreamWorker) -> None:
    while worker.step() is not None:
        pass


def sale(number: int, **other: Any) -> dict[str, Any]:
    row = {"shop": f"shop {number % 7}", "city": (1, 2, None)[number % 3], "amount": number / 8, "buyer": "ops"}
    return {"id": f"e{number}", "at_us": T - number * 60_000_000} | row | other


events = st.lists(st.integers(0, 170), min_size=1, max_size=60)  # up to 170 min late: inside every lateness but one's


@given(numbers=events, cuts=st.lists(st.integers(1, 9), min_size=1), seed=st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=30)
def test_shuffled_and_repeated_events_leave_the_state_of_the_clean_log(
    redis_client: redis.Redis, tmp_path_factory: pytest.TempPathFactory, numbers: list[int], cuts: list[int], seed: Any
) -> None:
    redis_client.flushdb()
    states = []
    shuffled = [*numbers, *numbers[: len(numbers) // 2]]
    seed.shuffle(shuffled)
    for i, order in enumerate((sorted(set(numbers), reverse=True), shuffled)):
        home = tmp_path_factory.mktemp("home")
        where = RedisSettings(namespace=f"order-{i}")
        streams = Streams(redis_client, Settings(home=home, clock="event", redis=where))
        worker, rows = streams.worker(), [sale(number) for number in order]
        while rows:
            size = cuts[len(rows) % len(cuts)]
            part, rows = rows[:size], rows[size:]
            streams.send(part)
            if size % 2:
                worker.step()
        drain(worker)
        states.append(_without_positions(redis_client, streams))
        assert streams.sum_of("duplicates") + streams.sum_of("events") >= len(order)
    assert states[0] == states[1]


def _without_positions(client: redis.Redis, streams: Streams) -> dict[bytes, bytes]:
    tag = streams.keys.tag(0).encode()
    names = list(client.scan_iter(match=f"{streams.keys.tag(0)}:{'[0-9a-f]' * 8}:*"))
    return {name.removeprefix(tag): client.get(name)[8:] for name in names}  # type: ignore[index]


def test_every_event_is_in_the_offline_log_once_and_late_ones_apart(streams: Callable[..., Streams]) -> None:
    world = streams(partitions=3)
    worker = world.worker()
    for start in range(0, 400, 20):
        world.send([sale(n) for n in range(start, start + 20)])
        world.send([sale(n) for n in range(max(0, start - 10), start + 5)])
    world.flush(worker)
    assert sorted(world.log.events("sales")["id"]) == sorted(f"e{n}" for n in range(181))
    assert sorted(world.log.late("sales")["id"]) == sorted(f"e{n}" for n in range(181, 400))
    assert world.sum_of("late") == 400 - 181
    assert all(world.client.xlen(world.keys.log(p)) == 0 for p in range(3))
    assert not any(world.client.exists(world.keys.dropped(p)) for p in range(3))


def test_a_worker_goes_on_with_what_a_dead_one_had_read(streams: Callable[..., Streams]) -> None:
    world = streams(lease_s=SHORT_LEASE_S)
    dead = world.worker()
    dead.step()
    world.send([sale(1), sale(2)])
    taken = dead.held[0].store.read(10, 10**6)
    assert len(taken) == world.client.xpending(world.keys.log(0), GROUP)["pending"] > 0  # type: ignore[index]
    heir = world.worker()
    world.until(lambda: heir.step() is not None)
    assert world.sum_of("events") == 2
    assert world.client.xpending(world.keys.log(0), GROUP)["pending"] == 0  # type: ignore[index]
    assert len(world.client.xinfo_consumers(world.keys.log(0), GROUP)) == 1
    before = world.digest()
    assert dead.step() is None  # it finds that it lost the lease
    assert world.digest() == before


def test_a_worker_that_lost_its_lease_changes_nothing(streams: Callable[..., Streams]) -> None:
    world = streams()
    zombie = world.worker()
    zombie.step()
    world.send([sale(1)])
    entries = zombie.held[0].store.read(10, 10**6)
    prepared = zombie.held[0]._applier.prepare(entries)
    world.client.delete(world.keys.lease(0))
    heir = world.worker()
    drain(heir)
    before = world.digest()
    with pytest.raises(LeaseLost):
        zombie.held[0]._applier.finish(prepared)
    assert world.digest() == before
    assert world.sum_of("events") == 1


def test_workers_share_the_partitions(streams: Callable[..., Streams]) -> None:
    world = streams(partitions=4, lease_s=0.5)
    first, second = world.worker(), world.worker()
    first.step()
    assert len(first.held) == 4

    def are_even() -> bool:
        first.step()
        second.step()
        return len(first.held) == len(second.held) == 2

    world.until(are_even)
    positions = world.send([sale(n) for n in range(100)])
    drain(first)
    drain(second)
    wait_applied(world.client, world.keys, positions, timeout_s=5)
    second.held[0].flush()
    world.until(lambda: first.step() is None and len(first.held) == 4)  # the second is silent


def test_a_new_view_is_filled_from_the_offline_log(streams: Callable[..., Streams]) -> None:
    whole = rich_use_case()
    kept = tuple(v for v in feature_set(whole).views if v.name in ("size", "recent"))
    before = streams(dataclasses.replace(whole, features=FeatureSet(kept)))
    first = before.worker()
    before.send([sale(n) for n in range(50)])
    drain(first)
    before.send([sale(n) for n in range(50, 90)])  # waits when the new declaration comes
    first.held[0].store.release()
    after = streams(whole)
    drain(after.worker())
    got = after.digest()
    after.flush(after.worker())
    rebuild(after.client, after.keys, after.log, {"rich": whole}, expire=False)
    assert after.digest() == got
    town = next(v for v in feature_set(whole).window_views if v.name == "town")
    assert after.client.exists(after.keys.entity(0, view_digest("rich", town), "1"))


def test_what_redis_lost_comes_back_from_the_offline_log(streams: Callable[..., Streams]) -> None:
    world = streams(partitions=2)
    worker = world.worker()
    world.send([sale(n) for n in range(90)])
    world.flush(worker)
    before = world.digest()
    for name in list(world.client.scan_iter(match=f"{{{world.keys.namespace}*")):
        world.client.unlink(name)
    heir = world.worker()
    drain(heir)
    assert world.digest() == before
    world.send([sale(n) for n in range(90)])  # their ids are known still
    drain(heir)
    assert world.digest() == before
    assert world.sum_of("events") == 0


def test_the_number_of_partitions_is_changed_by_a_rebuild_only(streams: Callable[..., Streams]) -> None:
    two, three = streams(partitions=2), streams(partitions=3)
    worker = two.worker()
    two.send([sale(n) for n in range(60)])
    drain(worker)
    with pytest.raises(SettingsError, match="evergreen features rebuild"):
        three.worker()
    use_cases = {"rich": two.use_case}
    with pytest.raises(DependencyDown, match="not in the offline log yet"):
        rebuild(two.client, two.keys, two.log, use_cases, partitions=3, expire=False)
    two.flush(worker)
    two.client.xadd(two.keys.log(0), {"kind": "flush"})  # nobody's to answer, and nothing is lost with it
    rebuild(two.client, two.keys, two.log, use_cases, partitions=3, expire=False)
    with pytest.raises(SettingsError, match="split into 3"):
        two.worker()
    again = three.worker()
    three.send([sale(n) for n in range(60)])
    three.send([sale(n) for n in range(60, 80)])
    three.flush(again)
    assert three.sum_of("events") > 0
    assert sorted(three.log.events("sales")["id"]) == sorted(f"e{n}" for n in range(80))
    before = three.digest()
    rebuild(three.client, three.keys, three.log, use_cases, partitions=3, expire=False)
    assert three.digest() == before


def test_a_new_redis_with_more_partitions_gets_all_of_history(streams: Callable[..., Streams]) -> None:
    one, four = streams(partitions=1), streams(partitions=4)
    worker = one.worker()
    one.send([sale(n) for n in range(60)])
    one.flush(worker)
    for name in one.client.scan_iter("*"):
        one.client.delete(name)
    again = four.worker()
    drain(again)
    four.send([sale(60)])
    four.flush(again)
    before = four.digest()
    rebuild(four.client, four.keys, four.log, {"rich": four.use_case}, partitions=4, expire=False)
    names = {name.rsplit(b":", 1)[-1] for name in four.client.scan_iter("*:shop [0-9]")}
    assert len(names) == 7
    assert four.digest() == before


def test_an_interrupted_split_is_finished_before_anybody_works(
    streams: Callable[..., Streams], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = streams(partitions=1), streams(partitions=2)
    worker = one.worker()
    one.send([sale(n) for n in range(60)])
    one.flush(worker)
    arguments = (one.client, one.keys, one.log, {"rich": one.use_case})
    whole = rebuild_module._restore_partition
    with monkeypatch.context() as patched:

        def interrupted(*given: Any) -> None:
            if given[3].partition == 1:
                raise KeyboardInterrupt
            whole(*given)

        patched.setattr(rebuild_module, "_restore_partition", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rebuild(*arguments, partitions=2, expire=False)
    for streams_of in (one, two):
        with pytest.raises(SettingsError, match="Finish it with: evergreen features rebuild"):
            streams_of.worker()
    rebuild(*arguments, partitions=2, expire=False)
    before = two.digest()
    again = two.worker()
    two.send([sale(n) for n in range(60)])  # all known
    two.flush(again)
    assert two.digest() == before
    rebuild(*arguments, partitions=1, expire=False)
    one.worker()


def test_settling_waits_for_a_running_worker(streams: Callable[..., Streams]) -> None:
    world = streams(partitions=2)
    with pytest.raises(DependencyDown, match="not reached within"):
        settle(world.client, world.keys, 2, timeout_s=0.01)
    stop = threading.Event()
    running = threading.Thread(target=world.worker().run, args=(stop,))
    running.start()
    try:
        world.send([sale(n) for n in range(30)])
        settle(world.client, world.keys, 2, timeout_s=30)
        assert len(world.log.events("sales")) == 30
    finally:
        stop.set()
        running.join()
    assert not any(world.client.exists(world.keys.lease(p)) for p in range(2))


def test_redis_going_away_is_waited_out(port: int, tmp_path: Path) -> None:
    where = RedisSettings(url=f"redis://127.0.0.1:{port}/0")
    settings = Settings(home=tmp_path / "home", clock="event", redis=where)
    world = Streams(redis.Redis(port=port), settings)
    stop = threading.Event()
    with running_redis(find_redis_server(), port, tmp_path):
        running = threading.Thread(target=world.worker().run, args=(stop,))
        running.start()
        world.send([sale(n) for n in range(30)])
        settle(world.client, world.keys, timeout_s=30)
        before = world.digest()
    try:
        with running_redis(find_redis_server(), port, tmp_path):  # an empty one
            settle(world.client, world.keys, timeout_s=30)
            assert world.digest() == before
            stop.set()
            running.join()
    finally:
        stop.set()
        running.join()
        world.client.close()


def test_prometheus_is_told(streams: Callable[..., Streams]) -> None:
    world = streams()
    worker = world.worker()
    worker.step()
    world.send([sale(1), sale(1), sale(300)])
    world.flush(worker)

    def told(name: str, **labels: str) -> float | None:
        return worker.metrics.registry.get_sample_value(f"evergreen_stream_{name}", labels)

    counters = {"events_total": 1, "duplicates_total": 1, "late_total": 1, "flushed_rows_total": 2, "partitions": 1}
    assert {name: told(name) for name in counters} == counters
    assert told("lag_seconds", partition="0") == 0
    assert told("apply_seconds_count") == told("batches_total") == 1


def test_lag_tells_how_many_entries_wait(streams: Callable[..., Streams]) -> None:
    world = streams()
    worker = world.worker()
    for n in range(5):
        world.send([sale(n)])
    assert lag(world.client, world.keys, 1)[0].entries == 5
    drain(worker)
    assert (lag(world.client, world.keys, 1)[0].entries, lag(world.client, world.keys, 1)[0].length) == (0, 5)
    world.flush(worker)
    world.send([sale(9)])
    found = lag(world.client, world.keys, 1)[0]
    assert (found.entries, found.length) == (1, 1)
    assert 0 <= found.seconds < 60


def test_ids_are_forgotten_once_their_day_is_past(streams: Callable[..., Streams]) -> None:
    world = streams(sample_use_case())
    worker, days = world.worker(), 24 * HOUR
    for day in range(40):
        now = T + day * days
        rows = [{"id": f"d{day}-{i}", "at_us": now, "shop": "a", "amount": 1.0} for i in range(100)]
        world.send(rows, now)
        world.send(rows, now)
        drain(worker)
    assert worker.held[0].remembered <= 5 * 100
    assert len(list(world.client.scan_iter(match=f"{world.keys.tag(0)}:seen:*"))) <= 5
    assert world.sum_of("events") == world.sum_of("duplicates") == 4000


def test_what_fits_no_declaration_is_kept_and_not_applied(streams: Callable[..., Streams]) -> None:
    world = streams(sample_use_case())
    worker = world.worker()
    world.send(
        [{"id": "good", "at_us": T, "shop": "a", "amount": 1.0}, {"id": "bad", "at_us": T, "shop": "a", "amount": "x"}]
    )
    world.client.xadd(world.keys.log(0), {"kind": "events", "source": "sales", "known_at": T, "data": b"{"})
    world.flush(worker)
    assert (world.sum_of("events"), world.sum_of("unfit")) == (1, 2)
    assert world.log.events("sales")["id"].tolist() == ["good"]
    unfit = world.log.late("sales@unfit")
    assert unfit["id"].tolist() == ["bad", ""]
    assert unfit["data"].tolist() == ['{"shop":"a","amount":"x"}', "{"]


def test_values_expire_by_the_machines_clock_only(client: redis.Redis, where: RedisSettings, tmp_path: Path) -> None:
    world = Streams(client, Settings(home=tmp_path, clock="system", redis=where))
    worker = world.worker()
    world.send([sale(1)])
    drain(worker)
    world.send([sale(2), sale(8)])  # the second writes what is written already
    drain(worker)
    names = [n for n in client.scan_iter(match=f"{world.keys.tag(0)}:*:*") if b":counters" not in n]
    assert names
    assert all(2 * 86_400 < client.ttl(name) < 6 * 86_400 for name in names)  # type: ignore[operator]


def test_a_reader_sees_what_was_applied(streams: Callable[..., Streams], where: RedisSettings) -> None:
    world = streams(sample_use_case(), partitions=2)
    worker = world.worker()
    world.send([{"id": f"e{i}", "at_us": T, "shop": "a", "amount": 0.1} for i in range(40)])
    drain(worker)
    reader = FeatureReader(world.use_case, world.client, where.namespace, 2)
    got = reader.assemble([{"shop": "a", "amount": 1.0}], np.array([T], dtype=np.int64))
    columns = world.use_case.features.columns
    assert got.matrix[0, columns.index("recent_sales_2h")] == 40
    assert got.matrix[0, columns.index("recent_total_2h")] == pytest.approx(4.0)
