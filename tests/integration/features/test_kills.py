"""A worker that is killed at any moment neither loses nor doubles an event, on one Redis and on a cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from features.offline.log import OfflineLog
from features.streaming.rebuild import digest, rebuild
from tests.soak import Soak


@pytest.mark.parametrize(
    ("where", "events", "partitions", "kills", "at_once"),
    [("one Redis", 60_000, 1, 50, 1), ("one Redis", 10_000, 4, 10, 2), ("a cluster", 10_000, 4, 10, 1)],
    indirect=["where"],
)
def test_killed_workers_leave_what_a_clean_run_leaves(
    soak: Callable[..., Soak], events: int, partitions: int, kills: int, at_once: int
) -> None:
    killed, clean = soak(events, partitions), soak(events, partitions, "clean")
    client = killed.client()
    after_kills = killed.run(client, kills, at_once)
    log = OfflineLog(killed.settings.offline_dir)
    assert sorted(log.events("sales")["id"]) == killed.expected_ids()
    killed.clear(client)
    use_cases = {"rich": killed.use_case}
    rebuild(client, killed.keys, log, use_cases, partitions=partitions, expire=False)
    assert digest(client, killed.keys, partitions) == after_kills
    killed.clear(client)
    assert clean.run(client, 0) == after_kills
