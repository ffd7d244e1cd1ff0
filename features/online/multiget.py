"""Redis for the hot path: redis-py's connection and parser, without the steps in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, cast

import redis


class Direct:
    """Sends packed commands to one server, over one connection per thread that is kept between calls.

    Taking a connection from redis-py's pool and giving it back costs as much as a third of a small read.

    Args:
        client: of one server, with ``decode_responses=False``.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._kept = threading.local()

    def ask(self, packed: bytes, replies: int = 1) -> list[Any]:
        """Send packed commands at once, and return their replies; errors of single commands among them.

        Raises:
            redis.RedisError: if the server does not answer; the connection opens anew with the next call.
        """
        connection = self._connection()
        connection.send_packed_command((packed,))
        return [_reply(connection) for _ in range(replies)]

    def _connection(self) -> Any:
        kept = self._kept
        if getattr(kept, "process", None) != os.getpid():  # a fork must not share its parent's
            kept.connection, kept.process = self._client.connection_pool.get_connection(), os.getpid()
        return kept.connection


class MultiGet:
    """Reads many keys of one server.

    Args:
        client: of one server, with ``decode_responses=False``.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._direct = Direct(client)

    def __call__(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The values, in the order of the keys; None where there is none.

        A connection that turns out to be broken is replaced as the client's retries say.

        Raises:
            redis.RedisError: if the server does not answer.
        """
        try:
            (found,) = self._direct.ask(pack([b"MGET", *names]))
        except redis.ConnectionError:  # closed while it lay idle
            return cast(list[bytes | None], self._client.mget(list(names)))
        if isinstance(found, redis.RedisError):
            raise found
        return cast(list[bytes | None], found)


def pack(words: Sequence[bytes]) -> bytes:
    r"""A command in Redis's protocol.

    Source: the Redis serialization protocol specification, https://redis.io/docs/latest/develop/reference/protocol-spec.

    Example:
        >>> pack([b"GET", b"name"])
        b'*2\r\n$3\r\nGET\r\n$4\r\nname\r\n'
    """
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:  # of this command alone: the next reply follows
        return error
