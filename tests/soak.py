"""A stream of events with duplicates and delays, applied by stream workers that are killed again and again.

``python -m tests.soak_at_size 1000000 50`` runs it at full size on a Redis of its own and prints what came out.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import redis

from core.settings import RedisSettings, Settings, StreamSettings
from core.use_case import UseCase
from features.connection import connect
from features.definitions import key_groups
from features.streaming.rebuild import digest
from features.streaming.settling import settle
from features.streaming.worker import StreamWorker
from features.streams import Keys, encode_events, fan_out
from tests.rich_use_case import rich_use_case

START_US = 1_577_836_800_000_000
BASE_MS = 1_600_000_000_000
"""Time of the first entry's id: the ids are chosen, so that two runs can be compared byte by byte."""
PER_ENTRY = 50
LATEST_US = 4 * 3_600_000_000
"""Events are up to this late, which is too late for every view of the use case for some."""
_STEP_US = 20_000_000
_KEPT = 2_000

_processes = multiprocessing.get_context("forkserver")


@dataclass
class Soak:
    """One Redis, one folder, one stream of events.

    Args:
        url: where Redis is.
        is_cluster: whether it is a cluster.
        namespace: prefix of the keys.
        home: folder of the offline log.
        partitions: how many there are.
        events: how many are sent, duplicates among them.
        seed: of what is sent and when workers are killed.
    """

    url: str
    is_cluster: bool
    namespace: str
    home: Path
    partitions: int
    events: int
    seed: int = 0
    use_case: UseCase = field(default_factory=rich_use_case)

    @property
    def settings(self) -> Settings:
        """For a worker with small batches, short leases and frequent flushes: much to be killed in."""
        return Settings(
            home=self.home,
            clock="event",
            redis=RedisSettings(url=self.url, cluster=self.is_cluster, namespace=self.namespace),
            stream=StreamSettings(
                partitions=self.partitions,
                flush_every_s=0.2,
                lease_s=0.1,
                batch_entries=max(8, self.events // PER_ENTRY // 250),
            ),
        )

    @property
    def keys(self) -> Keys:
        """Names of the keys."""
        return Keys(self.namespace)

    def client(self) -> redis.Redis:
        """A client of its Redis."""
        return connect(self.settings)

    def fill(self, client: redis.Redis) -> int:
        """Write the logs, the same each time; returns how many entries there are."""
        groups, sent = key_groups([self.use_case], "sales"), 0
        for events, known_at_us in self._batches():
            for place, rows in fan_out(groups, events, self.partitions).items():
                fields = encode_events("sales", place, rows, known_at_us)
                client.xadd(self.keys.log(place.partition), fields, id=f"{BASE_MS + sent}-0")
                sent += 1
        return sent

    def clear(self, client: redis.Redis) -> None:
        """Delete every key of the namespace."""
        for name in list(client.scan_iter(match=f"{{{self.namespace}*", count=1000)):
            client.unlink(name)

    def expected_ids(self) -> list[str]:
        """The ids that must be in the offline log: each once, but for those that are too late for every view."""
        lateness_us = max(view.lateness_us for view in self.use_case.features.window_views)  # type: ignore[attr-defined]
        sent = {(e["id"], e["at_us"] >= known - lateness_us) for events, known in self._batches() for e in events}
        return sorted(event_id for event_id, is_in_time in sent if is_in_time)

    def run(self, client: redis.Redis, kills: int, at_once: int = 1) -> str:
        """Apply everything, `at_once` workers beside each other, of which one is killed and replaced again and again.

        Returns:
            The digest of the online features.
        """
        entries, rng = self.fill(client), random.Random(self.seed)
        workers = [self.start_worker() for _ in range(at_once)]
        for threshold in sorted(rng.randrange(entries) for _ in range(kills)):
            while self.applied(client) < threshold:
                assert all(worker.is_alive() for worker in workers), "a worker ended by itself"
                client.blpop([f"{{{self.namespace}}}:nothing"], timeout=0.002)
            for _ in range(rng.randrange(20)):  # somewhere within the next steps
                client.get(self.keys.cursor(0))
            victim = workers.pop(rng.randrange(at_once))
            victim.kill()
            victim.join()
            workers.append(self.start_worker())
        settle(client, self.keys, self.partitions, timeout_s=300)
        for worker in workers:
            worker.terminate()
            worker.join()
            assert worker.exitcode == 0
        return digest(client, self.keys, self.partitions)

    def applied(self, client: redis.Redis) -> int:
        """How many entries are applied."""
        return sum(int(client.hget(self.keys.counters(p), "entries") or 0) for p in range(self.partitions))  # type: ignore[arg-type]

    def start_worker(self) -> BaseProcess:
        """A worker in a process of its own."""
        _processes.set_forkserver_preload(["tests.soak"])
        process = _processes.Process(target=_work, args=(self.settings,), daemon=True)
        process.start()
        return process

    def _batches(self) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Events and when they became known: some came before, some are too late."""
        rng, kept = random.Random(self.seed), list[dict[str, Any]]()
        for number in range(-(-self.events // PER_ENTRY)):
            known_at_us = START_US + number * _STEP_US
            events = []
            for i in range(PER_ENTRY):
                if kept and rng.random() < 0.05:
                    events.append(rng.choice(kept))
                    continue
                late_us = rng.randrange(LATEST_US) if rng.random() < 0.3 else rng.randrange(60_000_000)
                events.append(
                    {
                        "id": f"e{number}-{i}", "at_us": known_at_us - late_us, "shop": f"shop {rng.randrange(300)}",
                        "city": rng.choice((1, 2, 3, None)), "amount": rng.choice((None, 0.1, 2.5, 1e6)),
                        "buyer": rng.choice((None, "ops", "bo", "ü")),
                    }
                )  # fmt: skip
            kept = (kept + events)[-_KEPT:]
            yield events, known_at_us


def _work(settings: Settings) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    StreamWorker(settings, connect(settings), {"rich": rich_use_case()}).run(stop)
