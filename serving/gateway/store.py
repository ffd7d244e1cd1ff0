"""What the gateway needs of Redis, behind a small seam."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis import asyncio as aioredis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from core.errors import DependencyDown
from features.connection import REDIS_FAULTS

_TIMEOUT_S = 2.0
_CONNECTIONS = 32
Entries = Sequence[tuple[str, Mapping[Any, Any]]]
"""Stream and fields of entries to append."""
Counts = Sequence[tuple[str, int, int]]
"""Counter, what is added to it, and in how many seconds it ends; adding 0 reads it."""


class Store(Protocol):
    """Streams and hashes. Every call must return or raise DependencyDown within a few seconds."""

    async def append(self, entries: Entries) -> list[bytes]:
        """Append entries, acknowledged, and return their ids, ``milliseconds-sequence``.

        One server appends all of them or none. In a cluster, whose streams are apart, it may be some when this
        raises: readers must know what is sent again by its ids.
        """
        ...

    async def lengths(self, streams: Sequence[str]) -> list[int]:
        """Number of entries that each stream holds; 0 if there is none."""
        ...

    async def read_hash(self, key: str) -> dict[str, bytes]:
        """The whole hash; empty if there is none."""
        ...

    async def write_field(self, key: str, name: str, value: bytes | None) -> None:
        """Set one field of a hash, or remove it if `value` is None."""
        ...

    async def add_counts(self, counts: Counts) -> list[int]:
        """Add to counters that end by themselves, and return what each is then; not atomic over several."""
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...

    async def close(self) -> None:
        """Let go of all connections; must be idempotent."""
        ...


class RedisStore:
    """Redis, as given by its URL. Connects on first use; a connection that broke is opened again.

    Args:
        url: e.g. ``redis://127.0.0.1:6379/0``; of a cluster, any node's.
        cluster: whether it is a cluster.
    """

    def __init__(self, url: str, *, cluster: bool = False) -> None:
        options: dict[str, Any] = {
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
            # Once more at once: after Redis was restarted, pooled connections are dead. Never after a
            # time-out: an XADD may have happened.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        }
        self._is_cluster = cluster
        self._client: Any
        if cluster:
            self._client = RedisCluster.from_url(url, max_connections=_CONNECTIONS, **options)
        else:
            pool = aioredis.BlockingConnectionPool.from_url(
                url, max_connections=_CONNECTIONS, timeout=_TIMEOUT_S, **options
            )
            self._client = aioredis.Redis.from_pool(pool)

    async def append(self, entries: Entries) -> list[bytes]:
        """Append the entries, on one server in one transaction."""
        async with _answering():
            if len(entries) == 1:
                return [await self._client.xadd(*entries[0])]
            async with self._client.pipeline(transaction=not self._is_cluster) as pipe:
                for stream, fields in entries:
                    pipe.xadd(stream, fields)
                ids: list[bytes] = await pipe.execute()
        return ids

    async def lengths(self, streams: Sequence[str]) -> list[int]:
        """Numbers of entries."""
        async with _answering(), self._client.pipeline(transaction=False) as pipe:
            for stream in streams:
                pipe.xlen(stream)
            found: list[int] = await pipe.execute()
        return found

    async def read_hash(self, key: str) -> dict[str, bytes]:
        """The whole hash."""
        async with _answering():
            found: dict[bytes, bytes] = await self._client.hgetall(key)
        return {name.decode(errors="replace"): value for name, value in found.items()}

    async def write_field(self, key: str, name: str, value: bytes | None) -> None:
        """Set or remove one field."""
        async with _answering():
            if value is None:
                await self._client.hdel(key, name)
            else:
                await self._client.hset(key, name, value)

    async def add_counts(self, counts: Counts) -> list[int]:
        """Add to counters, in one round trip."""
        async with _answering(), self._client.pipeline(transaction=False) as pipe:
            for counter, n, ends_in_s in counts:
                pipe.incrby(counter, n)
                pipe.expire(counter, ends_in_s)
            found: list[int] = await pipe.execute()
        return found[::2]

    async def ping(self) -> None:
        """Return if Redis answers."""
        async with _answering():
            await self._client.ping()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


class MemoryStore:
    """A store in memory, for tests. `down` makes every call fail as if Redis were away."""

    def __init__(self) -> None:
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.counters: dict[str, int] = {}
        self.down = False

    async def append(self, entries: Entries) -> list[bytes]:
        """Append the entries; an id is ``1-<number of entries of the stream before it>``."""
        await self.ping()
        ids = []
        for stream, fields in entries:
            held = self.streams.setdefault(stream, [])
            ids.append(b"1-%d" % len(held))
            held.append(dict(fields))
        return ids

    async def lengths(self, streams: Sequence[str]) -> list[int]:
        """Numbers of entries."""
        await self.ping()
        return [len(self.streams.get(stream, [])) for stream in streams]

    async def read_hash(self, key: str) -> dict[str, bytes]:
        """The whole hash."""
        await self.ping()
        return dict(self.hashes.get(key, {}))

    async def write_field(self, key: str, name: str, value: bytes | None) -> None:
        """Set or remove one field."""
        await self.ping()
        fields = self.hashes.setdefault(key, {})
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value

    async def add_counts(self, counts: Counts) -> list[int]:
        """Add to counters, which never end."""
        await self.ping()
        for counter, n, _ in counts:
            self.counters[counter] = self.counters.get(counter, 0) + n
        return [self.counters[counter] for counter, _, _ in counts]

    async def ping(self) -> None:
        """Raise DependencyDown if `down`."""
        if self.down:
            raise DependencyDown("Redis", "it is down")

    async def close(self) -> None:
        """Nothing to let go of."""


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Turn Redis's ways of not answering into DependencyDown."""
    try:
        async with asyncio.timeout(2 * _TIMEOUT_S):
            yield
    except (*REDIS_FAULTS, OSError, TimeoutError) as error:
        raise DependencyDown("Redis", f"{error}" or type(error).__name__) from error
