"""Sharing what each gateway process counted of a key's calls with the others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from core.errors import DependencyDown
from features.streams import Keys
from serving.gateway.access import Access
from serving.gateway.meter import DAY_S, Counts, Meter
from serving.gateway.store import Store

logger = logging.getLogger(__name__)
EVERY_S = 0.1
_SECOND_ENDS_IN_S = 5
_DAY_ENDS_IN_S = 2 * DAY_S


class LimitExchange:
    """Adds each process's counts to counters in Redis, and tells the process what all of them counted.

    No request waits for it. Between two exchanges a process goes by what it knows: the shared count of the last
    exchange and its own calls since. So with N processes a key can overshoot its limit by what the other N - 1 accept
    within one exchange (100 ms and a round trip to Redis), each at most what the key had left at the exchange before:

        accepted <= limit + (N - 1) * min(limit, calls a process accepts within one exchange)

    for the rate in any second of the clock and for the quota in the day alike. A process that has just started, or
    has not seen the key for two seconds, learns the count with its first exchange. While Redis is away each process
    goes on with its own count alone, so that N processes accept N times the limit at most, and failures are counted.
    Calls of the second are told by the clock, so machines that share a Redis must agree on the time.

    Args:
        access: the keys, with what was counted.
        store: holds the shared counters.
        keys: their names.
        failed: called for each exchange that failed.
        seconds: tells now, in seconds since 1970 UTC.
    """

    def __init__(
        self,
        access: Access,
        store: Store,
        keys: Keys,
        *,
        failed: Callable[[], None] = lambda: None,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._store = store
        self._keys = keys
        self._failed = failed
        self._seconds = seconds
        self._is_away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Exchange every 100 ms until `stop` is set, and once more then."""
        while not stop.is_set():
            await self.exchange()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_S)
        await self.exchange()

    async def exchange(self) -> None:
        """Exchange once; does nothing without a key that has a limit and is in use."""
        now_s = self._seconds()
        sent = [(meter, meter.hand_over(now_s)) for meter in self._access.meters() if meter.is_due(now_s)]
        if not sent:
            return
        try:
            totals = await self._store.add_counts(
                [line for meter, counts in sent for line in self._lines(meter, counts)]
            )
        except DependencyDown as error:
            for meter, counts in sent:
                meter.take_back(counts)
            self._failed()
            if not self._is_away:
                logger.warning("Calls are limited per process until Redis is back: %s", error)
            self._is_away = True
            return
        self._is_away = False
        rest = iter(totals)
        for meter, counts in sent:
            meter.learn(Counts({s: next(rest) for s in counts.seconds}, {d: next(rest) for d in counts.days}))

    def _lines(self, meter: Meter, counts: Counts) -> list[tuple[str, int, int]]:
        name = meter.key.id
        lines = [(self._keys.calls(name, f"s{s}"), n, _SECOND_ENDS_IN_S) for s, n in counts.seconds.items()]
        return lines + [(self._keys.calls(name, f"d{d}"), n, _DAY_ENDS_IN_S) for d, n in counts.days.items()]
