"""What fails for one partition, or for a while, neither ends the worker nor stops the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
import redis

from core.errors import DataError
from core.settings import RedisSettings, Settings
from features.connection import connect
from features.offline.log import OfflineLog
from features.streaming.flush import Flusher
from features.streaming.holding import Holding
from features.streaming.partition_store import Change, PartitionStore, Values, applied_between
from features.streams import Keys, entry_id_of
from tests.integration.features.conftest import MakeSettings
from tests.integration.features.test_streaming import Streams, drain, sale

SHORT_LEASE_S = 1.0  # short to wait for, and long enough that a process kept from its core does not lose it


@pytest.fixture
def streams(client: redis.Redis, settings: MakeSettings) -> Callable[..., Streams]:
    return lambda **stream: Streams(client, settings(**({"flush_every_s": 1000} | stream)))


def test_a_stream_that_cannot_be_written_stops_no_other(
    streams: Callable[..., Streams], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = streams(partitions=2)
    worker, write, written = world.worker(), OfflineLog.write, []

    def failing(log: OfflineLog, stream: str, until: int, tables: Any) -> None:
        if stream == "log-0":
            raise ValueError("events/sales: what a row")
        written.append(stream)
        write(log, stream, until, tables)

    monkeypatch.setattr(OfflineLog, "write", failing)
    world.send([sale(n) for n in range(20)])
    world.client.xadd(world.keys.predictions, {"meta": b"{}"})
    label = {"prediction_id": "p", "label": 1, "at_us": 1}
    labels = {"use_case": "rich", "known_at_us": 1, "labels": [label]}
    world.client.xadd(world.keys.labels, {"data": orjson.dumps(labels)})
    world.flush(worker)
    assert {"log-1", "labels"} <= set(written)
    assert "log-0 is kept" in caplog.text
    assert "what a row" in caplog.text
    assert "predictions is kept" in caplog.text
    assert world.client.xlen(world.keys.log(0)) > 0
    assert world.client.xlen(world.keys.predictions) == 1
    assert len(worker.held) == 2
    monkeypatch.setattr(OfflineLog, "write", write)
    world.flush(worker)
    assert world.client.xlen(world.keys.log(0)) == 0


@pytest.mark.parametrize("error", [DataError("a bad file"), redis.ResponseError("WRONGTYPE of a key")])
def test_a_partition_that_cannot_be_applied_is_tried_again_later(
    streams: Callable[..., Streams], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = streams(partitions=2, lease_s=SHORT_LEASE_S)
    worker, step, is_broken = world.worker(), Holding.step, [True]

    def failing(holding: Holding) -> Any:
        if holding.store.partition == 0 and is_broken:
            raise error
        return step(holding)

    monkeypatch.setattr(Holding, "step", failing)
    positions = world.send([sale(n) for n in range(20)])
    drain(worker)
    assert [holding.store.partition for holding in worker.held] == [1]
    assert worker.held[0].cursor == positions[1]
    is_broken.clear()
    world.until(lambda: worker.step() is None and len(worker.held) == 2)
    drain(worker)
    assert [holding.cursor for holding in worker.held] == [positions[0], positions[1]]


def test_a_partition_that_cannot_be_taken_is_tried_again_later(
    streams: Callable[..., Streams], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = streams(partitions=2, lease_s=SHORT_LEASE_S)
    recover, is_broken = Holding._recover, [True]

    def failing(holding: Holding) -> Any:
        if holding.store.partition == 0 and is_broken:
            raise DataError("a bad file")
        return recover(holding)

    monkeypatch.setattr(Holding, "_recover", failing)
    worker = world.worker()
    drain(worker)
    assert [holding.store.partition for holding in worker.held] == [1]
    assert world.client.get(world.keys.lease(0)) is None
    is_broken.clear()
    world.until(lambda: worker.step() is None and len(worker.held) == 2)


@pytest.mark.parametrize(
    "answer",
    [
        "BUSY Redis is busy running a script.",
        "MISCONF Errors writing to the AOF file: No space left on device script: 1f, on @user_script:12.",
        "NOREPLICAS Not enough good replicas to write.",
        "LOADING Redis is loading the dataset in memory",
        "ERR Script attempted to access a non local key in a cluster node script: 1f, on @user_script:44.",
    ],
)
def test_answers_that_pass_are_waited_out(
    streams: Callable[..., Streams], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    world = streams()
    worker, commit, answers = world.worker(), PartitionStore.commit, [answer]
    stop = threading.Event()

    def failing(store: PartitionStore, change: Change) -> None:
        if change.entries and answers:
            raise redis.ResponseError(answers.pop())
        commit(store, change)
        if change.entries:
            stop.set()

    monkeypatch.setattr(PartitionStore, "commit", failing)
    position = world.send([sale(1)])[0]
    worker.run(stop)
    assert not answers
    assert int(world.client.get(world.keys.cursor(0)) or 0) == position


def test_a_flush_takes_nothing_after_a_cursor_that_was_set_back(
    streams: Callable[..., Streams], client: redis.Redis
) -> None:
    world = streams()
    worker = world.worker()
    first = world.send([sale(1)])[0]
    second = world.send([sale(1), sale(4)])[0]
    drain(worker)
    keys = world.keys
    entries, dropped = applied_between(client, keys, 0, 0, second, limit=10, limit_bytes=10_000)
    assert [entry.position for entry in entries] == [first, second]
    assert dropped == {entry_id_of(second): b"\0\0\0\0"}
    client.set(keys.cursor(0), str(first))
    client.delete(keys.dropped(0))
    assert worker.held[0].flush() == 1
    assert world.log.flushed() == {"log-0": first}
    assert client.xlen(keys.log(0)) == 1


def test_entries_are_kept_if_the_cursor_is_set_back_while_they_are_written(
    streams: Callable[..., Streams], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = streams()
    worker, write = world.worker(), Flusher._write
    world.send([sale(1)])
    drain(worker)

    def writing(*given: Any) -> int:
        client.set(world.keys.cursor(0), "0")
        return write(*given)

    monkeypatch.setattr(Flusher, "_write", writing)
    worker.held[0].flush()
    assert client.xlen(world.keys.log(0)) == 1


def test_nothing_is_committed_while_a_partition_is_moved_to_another_node(redis_cluster: str, namespace: str) -> None:
    client: Any = connect(Settings(redis=RedisSettings(url=redis_cluster, cluster=True, namespace=namespace)))
    keys = Keys(namespace)
    store = PartitionStore(client, keys, 0, "me", 60_000)
    here = [keys.lease(0), keys.cursor(0), keys.log(0), keys.counters(0), keys.dropped(0), keys.views(0)]
    store.acquire()
    slot = client.keyslot(keys.log(0))
    owner = client.get_node_from_key(keys.log(0))
    other = next(node for node in client.get_primaries() if node.name != owner.name)
    owner_id = client.cluster_myid(owner).decode()
    other_id = client.cluster_myid(other).decode()
    store.commit(Change(cursor=0, to=5, counts={"entries": 1}, dropped={"1-0": b"x"}, views=["v"]))
    client.xadd(keys.log(0), {"kind": "flush"})
    seen = keys.seen(0, "sales", 1)
    client.append(seen, b"12345678")
    client.set(f"{keys.tag(0)}:0000aaaa:there", b"0")
    try:
        client.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {owner_id}", target_nodes=other)
        client.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {other_id}", target_nodes=owner)
        value = Values(f"{keys.tag(0)}:0000aaaa:", 0, [b"there"], np.array([1]), b"1")
        change = Change(cursor=5, to=6, seen={seen: (b"abcdefgh", 0)}, values=[value])
        with pytest.raises(redis.ResponseError, match="non local key"):
            store.commit(change)
        assert client.get(seen) == b"12345678"
        assert client.get(f"{keys.tag(0)}:0000aaaa:there") == b"0"
        assert store.cursor() == 5
    finally:
        for node in (owner, other):
            client.execute_command(f"CLUSTER SETSLOT {slot} STABLE", target_nodes=node)
    store.commit(change)
    assert client.get(seen) == b"12345678abcdefgh"
    assert client.exists(*here) == len(here)
    client.close()
