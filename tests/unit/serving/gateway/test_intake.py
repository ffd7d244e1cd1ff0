from __future__ import annotations

from typing import Any

import pytest

from core.errors import DependencyDown
from features.streams import Keys, entity_text, partition_of
from serving.gateway.intake import Intake
from serving.gateway.problems import StreamFull
from serving.gateway.store import MemoryStore

pytestmark = pytest.mark.anyio
KEYS = Keys("ns")


def event(identity: str, **fields: Any) -> dict[str, Any]:
    return {"id": identity, "at_us": 1, **fields}


async def test_the_length_of_a_stream_is_looked_at_every_tenth_of_a_second() -> None:
    now, store = 0.0, MemoryStore()
    intake = Intake(store, KEYS, partitions=1, max_entries=2, seconds=lambda: now)
    positions = [(await intake.events("s", (), [event("a")], 0))[0] for _ in range(4)]
    assert positions == sorted(positions), "four fit: the length was looked at when there were none"
    now = 0.2
    with pytest.raises(StreamFull):
        await intake.events("s", (), [event("a")], 0)
    store.streams[KEYS.log(0)].clear()
    with pytest.raises(StreamFull):
        await intake.events("s", (), [event("a")], 0)
    now = 0.4
    await intake.events("s", (), [event("a")], 0)
    await intake.labels({"n": 8})
    assert {name: len(held) for name, held in store.streams.items()} == {KEYS.log(0): 1, KEYS.labels: 1}


async def test_an_event_goes_to_every_partition_of_its_entities_and_is_first_in_one() -> None:
    store, groups = MemoryStore(), (("carrier",), ("origin", "carrier"))
    intake = Intake(store, KEYS, partitions=16, max_entries=10)
    positions = await intake.events("s", groups, [event("a", origin="JFK", carrier="AA")], 5)
    wanted = {partition_of(entity_text(entity), 16) for entity in (["AA"], ["JFK", "AA"])}
    assert set(positions) == wanted
    assert len(wanted) == 2, "the test needs entities of two partitions"
    assert set(store.streams) == {KEYS.log(partition) for partition in wanted}
    entries = [entry for held in store.streams.values() for entry in held]
    assert sorted((e["by"], e["first"]) for e in entries) == [("carrier", 1), ("origin+carrier", 0)]


async def test_one_full_partition_refuses_the_whole_call() -> None:
    store, groups = MemoryStore(), (("carrier",),)
    intake = Intake(store, KEYS, partitions=16, max_entries=2)
    full, free = (partition_of(carrier, 16) for carrier in ("AA", "UA"))
    assert full != free
    store.streams[KEYS.log(full)] = [{}] * 3
    with pytest.raises(StreamFull, match=r"holds 3 entries, more than 2"):
        await intake.events("s", groups, [event("a", carrier="UA"), event("b", carrier="AA")], 5)
    assert KEYS.log(free) not in store.streams
    assert set(await intake.events("s", groups, [event("a", carrier="UA")], 5)) == {free}


@pytest.mark.parametrize("count", [b"4", b"-1"])
async def test_nothing_is_written_where_nobody_would_look_for_it(count: bytes) -> None:
    now, store = 0.0, MemoryStore()
    intake = Intake(store, KEYS, partitions=1, max_entries=10, seconds=lambda: now)
    await intake.events("s", (), [event("a")], 0)
    store.hashes[KEYS.partitions] = {"count": count}
    now = 0.2
    with pytest.raises(DependencyDown, match="EVERGREEN_STREAM__PARTITIONS"):
        await intake.events("s", (), [event("b")], 0)
    store.hashes[KEYS.partitions] = {"count": b"1"}
    await intake.events("s", (), [event("b")], 0)
    assert {name: len(held) for name, held in store.streams.items()} == {KEYS.log(0): 2}
