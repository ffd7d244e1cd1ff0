"""Publishing batch views: what the offline log holds of a view is put online, all rows of a generation at once.

The steps are: stage every row beside the one that readers see; move the pointer; drop what nobody sees any more.
Each can be done again, so whatever was left half done by a crash is completed by the next publisher. There is one
publisher of a view at a time (`publishing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import redis

from core.clock import SystemClock, to_us
from core.errors import DependencyDown, Unavailable
from core.use_case import UseCase
from features.batch.published import TIMELESS_US, head, is_timeless, staged, version_dtype
from features.connection import REDIS_FAULTS
from features.definitions import BatchView, feature_set, view_digest
from features.offline.files import stream_lock
from features.offline.generations import Generations
from features.streams import Keys, partition_of

_CHUNK = 2000
_GRACE = timedelta(days=2)
_FLIP = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
local newest = redis.call('HGET', KEYS[2], 'newest_us')
if not newest or tonumber(ARGV[3]) > tonumber(newest) then redis.call('HSET', KEYS[2], 'newest_us', ARGV[3]) end
return 1
"""


@contextmanager
def publishing(generations: Generations) -> Iterator[None]:
    """Keep all other publishers of a view away; it ends with the process that holds it.

    Raises:
        DependencyDown: if another publisher does not end in time.
    """
    with stream_lock(generations.folder, "publishing"):
        yield


def read_generation(generations: Generations, number: int) -> pd.DataFrame:
    """The rows of one generation: ``entity``, ``at``, ``known_at`` and the outputs, as they were written."""
    frame: pd.DataFrame = pq.read_table(generations.folder / f"{number:020d}.parquet", partitioning=None).to_pandas()
    return frame


class Publisher:
    """Brings one batch view online.

    Args:
        client: Redis, with ``decode_responses=False``.
        keys: names of the keys.
        generations: what the offline log holds of the view.
        use_case: whose view.
        view: the batch view.
        partitions: how many there are.
        expire: let rows expire by the machine's clock; off when history is replayed.
        progress: told how many rows are staged so far.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        generations: Generations,
        use_case: UseCase,
        view: BatchView,
        *,
        partitions: int,
        expire: bool,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._generations = generations
        self._name = f"{use_case.name}/{view.name}"
        self._digest = view_digest(use_case.name, view)
        self._view = view
        self._partitions = partitions
        self._progress = progress
        # a question may lie behind now by the lateness, and must find what was alive then
        keep = view.ttl + feature_set(use_case).lateness + _GRACE
        self._keep_us = keep // timedelta(microseconds=1) if expire and not is_timeless(view) else None

    def pointer(self) -> int:
        """The newest generation that readers see; 0 before the first."""
        return int(cast(Any, self._client.get(self._keys.published(self._digest))) or 0)

    def forget(self) -> None:
        """Let readers see nothing, as if nothing had ever been published."""
        self._client.delete(self._keys.published(self._digest), self._keys.publication(self._digest))

    def publish(self) -> int:
        """Let readers see every generation there is in the log, and return the newest.

        Raises:
            DependencyDown: if Redis does not answer.
            Unavailable: if the pointer was moved by somebody who does not hold the lock.
        """
        try:
            return self._publish()
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error

    def _publish(self) -> int:
        state = self._keys.publication(self._digest)
        done, pointer = int(cast(Any, self._client.hget(state, "compacted")) or 0), self.pointer()
        pending = [g for g in self._generations.numbers() if g > min(done, pointer)]
        if not pending:
            return pointer
        newest = self._newest(pending)
        target, newest_us = max(pending[-1], pointer), int(newest["at_us"].max())
        self._stage(newest, pointer)
        if target > pointer:
            self._flip(pointer, target, newest_us)
        self._stage(newest, target)
        self._client.hset(state, "compacted", target)
        return target

    def _newest(self, generations: Sequence[int]) -> pd.DataFrame:
        """The newest row of each entity: its text, ``at_us``, ``generation`` and outputs."""
        best = pd.DataFrame()
        for generation in generations:
            rows = read_generation(self._generations, generation)
            at = rows["at"].astype("datetime64[us, UTC]")
            at_us = at.astype("int64").where(at.notna(), TIMELESS_US)
            rows = rows[["entity", *self._view.outputs]].assign(at_us=at_us, generation=generation)
            # of equal moments the later generation is the last: the sort is stable
            both = pd.concat([best, rows]).sort_values("at_us", kind="stable")
            best = both.drop_duplicates("entity", keep="last")
        return best

    def _stage(self, newest: pd.DataFrame, pointer: int) -> None:
        """Write each row beside what readers at `pointer` see of its entity."""
        now_us, count = to_us(SystemClock().now()), 0
        for names, fresh in self._chunks(newest):
            found = cast(list[bytes | None], self._client.mget(names))
            with self._client.pipeline(transaction=False) as pipe:
                for name, version, packed in zip(names, fresh, found, strict=True):
                    value = staged(packed, version, pointer)
                    left_us = self._keep_us and head(value[-len(version) :])[1] + self._keep_us - now_us
                    if value != packed and (left_us is None or left_us > 0):
                        pipe.set(name, value, px=left_us and -(-left_us // 1000))
                pipe.execute()
            self._progress(count := count + len(names))

    def _chunks(self, newest: pd.DataFrame) -> Iterator[tuple[list[str], list[bytes]]]:
        """Keys and versions, some thousand at a time, each time of one partition."""
        versions = np.empty(len(newest), dtype=version_dtype(len(self._view.outputs)))
        versions["generation"] = newest["generation"]
        versions["at_us"] = newest["at_us"]
        versions["values"] = newest[list(self._view.outputs)].to_numpy(dtype=np.float32)
        entities = newest["entity"].tolist()
        placed = np.array([partition_of(entity, self._partitions) for entity in entities], dtype=np.int64)
        for partition in np.unique(placed).tolist():
            mine = np.flatnonzero(placed == partition)
            for start in range(0, len(mine), _CHUNK):
                part = mine[start : start + _CHUNK].tolist()
                names = [self._keys.entity(partition, self._digest, entities[i]) for i in part]
                yield names, [versions[i].tobytes() for i in part]

    def _flip(self, pointer: int, target: int, newest_us: int) -> None:
        names = (self._keys.published(self._digest), self._keys.publication(self._digest))
        if not self._client.eval(_FLIP, 2, *names, str(pointer), str(target), str(newest_us)):
            raise Unavailable(
                f"The pointer of {self._name} is no longer at {pointer}: Redis was emptied or "
                "rebuilt while the view was published. Run it again."
            )
