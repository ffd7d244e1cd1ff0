"""The stream worker at work on a log that is there: events to online features, exactly once.

``python -m bench.ours_stream <port> <namespace> <events> <per entry> <keep|flush>``: see `bench.contender`. What is
measured is from the first entry read to the last one committed; with ``flush`` also until all events are in Parquet.
What is saved is what readers then get, see `sample`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis

from bench import declared
from bench.contender import serve
from bench.data import stream_events
from bench.redis_server import connect
from core.settings import RedisSettings, Settings, StreamSettings
from features.definitions import key_groups
from features.online.reader import FeatureReader
from features.streaming.worker import StreamWorker
from features.streams import Fields, Keys, encode_events, fan_out

_LONG_S = 100_000.0
_AT_ONCE = 500
SAMPLE = 50


class Stream:
    """A log of events and a worker of its own for each time it is applied.

    Args:
        port: of a Redis.
        namespace: prefix of the keys.
        events: how many events there are.
        per_entry: how many are in one entry: as many as came in one call of the gateway.
        is_flushed: whether they are also written to the offline log.
        home: folder of the offline logs.
    """

    def __init__(self, port: int, namespace: str, events: int, per_entry: int, is_flushed: bool, home: Path) -> None:
        self.client = connect(port)
        self.keys = Keys(namespace)
        self._port, self._events, self._is_flushed, self._home = port, events, is_flushed, home
        self._entries = list(_entries(events, per_entry))
        self._use_case = declared.stream()
        self._worker: StreamWorker | None = None
        self._runs = 0

    def fill(self) -> None:
        """Empty Redis, start a worker, and write the log."""
        self.client.flushdb()
        self._runs += 1
        self._worker = StreamWorker(self._settings(), self.client, {self._use_case.name: self._use_case})
        self._worker.step()  # takes the partition
        entries = [*self._entries, *([{"kind": "flush"}] if self._is_flushed else [])]
        for first in range(0, len(entries), _AT_ONCE):
            with self.client.pipeline(transaction=False) as pipe:
                for fields in entries[first : first + _AT_ONCE]:
                    pipe.xadd(self.keys.log(0), fields)
                pipe.execute()

    def apply(self) -> redis.Redis:
        """Apply it all.

        Raises:
            ValueError: if events were lost or counted twice.
        """
        assert self._worker is not None
        applied = 0
        while (step := self._worker.step()) is not None:
            applied += step.events
        if applied != self._events:
            raise ValueError(f"{applied} events were applied of {self._events}")
        return self.client

    def sample(self) -> npt.NDArray[np.float32]:
        """What readers get right after the last event, for the pairs of `sampled`."""
        users, items, at_us = sampled(self._events)
        instances = [{"user": u, "item": i} for u, i in zip(users.tolist(), items.tolist(), strict=True)]
        reader = FeatureReader(self._use_case, self.client, self.keys.namespace)
        return reader.assemble(instances, np.full(len(instances), at_us, dtype=np.int64)).matrix

    def _settings(self) -> Settings:
        # an own folder each time: what is in the log already would be restored to an empty Redis
        return Settings(
            home=self._home / str(self._runs),
            redis=RedisSettings(url=f"redis://127.0.0.1:{self._port}/0", namespace=self.keys.namespace),
            stream=StreamSettings(flush_every_s=_LONG_S, lease_s=_LONG_S, max_entries=4 * self._events + 1000),
        )


def sampled(events: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Users and items of some of the first `events` events, shape (`SAMPLE`,) each, and the moment of the last."""
    columns = stream_events(events)
    rows = np.random.default_rng(8).integers(0, events, SAMPLE)
    return columns["user"][rows], columns["item"][rows], int(columns["at_us"][-1])


def _entries(n: int, per_entry: int) -> Iterator[Fields]:
    """The log's entries, packed as the gateway packs one call."""
    columns = {name: values.tolist() for name, values in stream_events(n).items()}
    groups = key_groups([declared.stream()], declared.SOURCE)
    events = [
        {"id": f"e{i}", "at_us": at, "user": user, "item": item, "amount": amount}
        for i, (at, user, item, amount) in enumerate(
            zip(*(columns[name] for name in ("at_us", "user", "item", "amount")), strict=True)
        )
    ]
    for first in range(0, n, per_entry):
        part = events[first : first + per_entry]
        for place, rows in fan_out(groups, part, 1).items():
            yield encode_events(declared.SOURCE, place, rows, part[-1]["at_us"])


if __name__ == "__main__":
    port, namespace, events, per_entry, ending = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        stream = Stream(int(port), namespace, int(events), int(per_entry), ending == "flush", Path(folder))
        serve(stream.apply, lambda client, path: np.save(path, stream.sample()), stream.fill)
