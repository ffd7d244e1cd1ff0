"""What the gateway needs of Redis, behind a small seam."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from core.errors import DependencyDown

_TIMEOUT_S = 2.0
_CONNECTIONS = 32


class Store(Protocol):
    """Streams and hashes. Every call must return or raise DependencyDown within a few seconds."""

    async def append(self, stream: str, fields: Mapping[str, Any]) -> bytes:
        """Append one entry, acknowledged, and return its id, ``milliseconds-sequence``."""
        ...

    async def length(self, stream: str) -> int:
        """Number of entries the stream holds; 0 if there is none."""
        ...

    async def read_hash(self, key: str) -> dict[str, bytes]:
        """The whole hash; empty if there is none."""
        ...

    async def write_field(self, key: str, name: str, value: bytes | None) -> None:
        """Set one field of a hash, or remove it if `value` is None."""
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
        url: e.g. ``redis://127.0.0.1:6379/0``.
    """

    def __init__(self, url: str) -> None:
        pool = aioredis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            # Once more at once: after Redis was restarted, pooled connections are dead. Never after a
            # time-out: an XADD may have happened.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        self._client: Any = aioredis.Redis(connection_pool=pool)
        self._pool = pool

    async def append(self, stream: str, fields: Mapping[str, Any]) -> bytes:
        """Append one entry."""
        async with _answering():
            entry_id: bytes = await self._client.xadd(stream, fields)
        return entry_id

    async def length(self, stream: str) -> int:
        """Number of entries."""
        async with _answering():
            return int(await self._client.xlen(stream))

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

    async def ping(self) -> None:
        """Return if Redis answers."""
        async with _answering():
            await self._client.ping()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._pool.aclose()


class MemoryStore:
    """A store in memory, for tests. `down` makes every call fail as if Redis were away."""

    def __init__(self) -> None:
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.down = False

    async def append(self, stream: str, fields: Mapping[str, Any]) -> bytes:
        """Append one entry; its id is ``1-<number of entries before it>``."""
        await self.ping()
        entries = self.streams.setdefault(stream, [])
        entries.append(dict(fields))
        return b"1-%d" % (len(entries) - 1)

    async def length(self, stream: str) -> int:
        """Number of entries."""
        await self.ping()
        return len(self.streams.get(stream, []))

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
    except (RedisError, OSError, TimeoutError) as error:
        raise DependencyDown("Redis", f"{error}" or type(error).__name__) from error
