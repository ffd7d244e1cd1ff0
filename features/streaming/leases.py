"""Sharing the partitions among the live workers: each partition has one at a time, under a lease."""

from __future__ import annotations

import logging
import time
from typing import Any, cast

import redis

from features.connection import REDIS_FAULTS
from features.streaming import scripts
from features.streaming.holding import Hold, Holding
from features.streaming.partition_store import LeaseLost, PartitionStore
from features.streams import Keys

logger = logging.getLogger(__name__)
_TICKS_PER_LEASE = 3


class Leases:
    """The partitions that a worker holds.

    A worker that starts takes every partition that is free; one that has less than its share says so, and those
    that have more than theirs let go. A dead worker's partitions are free once its leases are over.

    Args:
        client: Redis or a cluster.
        keys: names of the keys.
        token: names the worker, unlike all others.
        partitions: how many there are.
        lease_s: how long a lease lasts without being renewed, in seconds.
        hold: makes a holding of a partition whose lease was acquired.
    """

    def __init__(
        self, client: redis.Redis, keys: Keys, token: str, partitions: int, lease_s: float, hold: Hold
    ) -> None:
        self._client, self._keys, self._token, self._hold = client, keys, token, hold
        self._lease_ms = max(1, int(lease_s * 1000))
        self._heartbeat = client.register_script(scripts.HEARTBEAT)
        self._stores = [PartitionStore(client, keys, p, token, self._lease_ms) for p in range(partitions)]
        self._held: dict[int, Holding] = {}
        self._ticked_at: float | None = None

    @property
    def held(self) -> list[Holding]:
        """What is held, in the order of the partitions."""
        return [self._held[p] for p in sorted(self._held)]

    def tick(self) -> bool:
        """Renew, let go and take, if it is time; returns whether it was."""
        now, first = time.monotonic(), self._ticked_at is None
        if not first and now - cast(float, self._ticked_at) < self._lease_ms / 1000 / _TICKS_PER_LEASE:
            return False
        self._ticked_at = now
        for holding in self.held:
            if not holding.store.renew():
                self.drop(holding)
        alive, others_wish = self._beat(wishing=False)
        share = -(-len(self._stores) // max(1, alive))
        if others_wish:
            for holding in self.held[share:]:
                self.let_go(holding)
        self._take(len(self._stores) if first else share)
        if len(self._held) < len(self._stores) // max(1, alive):
            self._beat(wishing=True)
        return True

    def drop(self, holding: Holding) -> None:
        """Forget a partition that was lost."""
        self._held.pop(holding.store.partition, None)
        try:
            holding.wait()
        except (LeaseLost, *REDIS_FAULTS) as error:
            logger.info("partition %d: the batch under way came to nothing: %s", holding.store.partition, error)

    def drop_all(self) -> None:
        """Forget everything and take it anew at the next tick: what Redis holds is not certain."""
        for holding in self.held:
            self.drop(holding)
        self._ticked_at = None

    def let_go(self, holding: Holding) -> None:
        """Give a partition to whoever takes it."""
        self.drop(holding)
        holding.store.release()
        logger.info("let go of partition %d", holding.store.partition)

    def renew(self) -> None:
        """Renew what is held, while something takes long."""
        for store in self._stores:
            store.renew()

    def leave(self) -> None:
        """Let go of everything: this worker ends."""
        for holding in self.held:
            self.let_go(holding)
        self._client.zrem(self._keys.workers, self._token)
        self._client.zrem(self._keys.wishes, self._token)

    def _beat(self, *, wishing: bool) -> tuple[int, int]:
        keys, wish = [self._keys.workers, self._keys.wishes], "1" if wishing else "0"
        alive, others_wish = cast(Any, self._heartbeat(keys, [self._token, self._lease_ms, wish]))
        return int(alive), int(others_wish)

    def _take(self, most: int) -> None:
        for store in self._stores:
            if len(self._held) >= most:
                return
            if store.partition in self._held or not (store.renew() or store.acquire()):
                continue
            try:
                self._held[store.partition] = self._hold(store)
                logger.info("took partition %d at position %d", store.partition, self._held[store.partition].cursor)
            except LeaseLost as lost:
                logger.warning("could not take partition %d: %s", store.partition, lost)
