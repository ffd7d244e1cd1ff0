"""Waking the deployer: what makes a change fast. A wake may be lost, so nothing depends on one."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.settings import Settings
from features.connection import REDIS_FAULTS, connect
from features.streams import Keys

logger = logging.getLogger(__name__)
_KEPT = 100
_TIMEOUT_S = 5.0


class Wakes(Protocol):
    """Tells one deployer that something wanted may have changed. Neither method may raise."""

    def wake(self) -> None:
        """Let `wait` return, now or when it is called next."""
        ...

    def wait(self, seconds: float) -> bool:
        """Return when there was a wake since the last call, or after that time; whether there was one."""
        ...


class MemoryWakes:
    """For one process.

    Example:
        >>> wakes = MemoryWakes()
        >>> wakes.wake()
        >>> wakes.wait(60), wakes.wait(0)
        (True, False)
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        """Set the event."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the event."""
        found = self._event.wait(seconds)
        self._event.clear()
        return found


class RedisWakes:
    """A stream in Redis, of which the newest entries are kept.

    Args:
        client: Redis.
        namespace: prefix of the keys.
        stop: set when the process is to end; while Redis is away, waiting ends with it.
    """

    def __init__(self, client: redis.Redis, namespace: str, stop: threading.Event | None = None) -> None:
        self._client = client
        self._key = Keys(namespace).wakes
        self._stop = stop or threading.Event()
        self._seen: bytes | str = ""

    @classmethod
    def connect(cls, settings: Settings, stop: threading.Event | None = None) -> RedisWakes:
        """Those of the settings' Redis.

        Raises:
            DependencyDown: if it is a cluster that does not answer; one server is connected to on first use.
        """
        timeout_s = settings.deployer.poll_s + _TIMEOUT_S
        never = Retry(NoBackoff(), 0)
        client = connect(settings, socket_timeout=timeout_s, socket_connect_timeout=_TIMEOUT_S, retry=never)
        return cls(client, settings.redis.namespace, stop)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def wake(self) -> None:
        """Append an entry; without Redis the deployer finds out by itself."""
        try:
            self._client.xadd(self._key, {"why": "asked"}, maxlen=_KEPT, approximate=True)
        except REDIS_FAULTS as error:
            logger.warning("The deployer is not woken, and finds out by itself: Redis does not answer: %s", error)

    def wait(self, seconds: float) -> bool:
        """Read behind the newest entry seen."""
        try:
            if not self._seen:
                newest: Any = self._client.xrevrange(self._key, count=1)
                self._seen = newest[0][0] if newest else "0-0"
            found: Any = self._client.xread({self._key: self._seen}, count=_KEPT, block=max(1, int(seconds * 1000)))
            if not found:
                return False
            for _, entries in found:
                self._seen = entries[-1][0]
            self._client.xtrim(self._key, maxlen=_KEPT, approximate=True)
        except REDIS_FAULTS:
            self._stop.wait(seconds)
            return False
        return True
