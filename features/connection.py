"""Connecting to Redis: one server or a cluster, used alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import redis
from redis.cluster import RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.exceptions import RedisClusterException

from core.errors import DependencyDown
from core.settings import Settings

REDIS_FAULTS = (redis.RedisError, RedisClusterException)
"""What redis-py raises when Redis does not answer as it should: the second, of clusters, is not of the first kind."""


def connect(settings: Settings, **options: Any) -> redis.Redis:
    """A client of the settings' Redis, with bytes as answers. `options` are redis-py's (time-outs, retries).

    For a cluster it is a ``RedisCluster``, which offers the same calls as long as the keys of one call share a
    hash tag.

    Raises:
        DependencyDown: if a cluster does not answer; one server is connected to on first use.
    """
    if settings.redis.cluster:
        try:
            return cast(redis.Redis, RedisCluster(**_cluster_options(settings.redis_url), **options))
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error
    return redis.Redis.from_url(settings.redis_url, **options)


def _cluster_options(url: str) -> dict[str, Any]:
    """What a URL says. Not `RedisCluster.from_url`: what that makes leaves its sockets open when it is closed."""
    found: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    found.pop("db", None)  # a cluster has but one
    if found.pop("connection_class", None) is SSLConnection:
        found["ssl"] = True
    return found


def fetch(client: redis.Redis, groups: Sequence[Sequence[bytes | str]]) -> list[bytes | None]:
    """The values of keys in one round trip; in a cluster, one to every node at the same time.

    Args:
        client: from `connect`.
        groups: keys; those of a group share a hash tag.

    Returns:
        The values in the order of the keys; None where there is none.
    """
    if not isinstance(client, RedisCluster):
        return cast(list[bytes | None], client.mget([key for group in groups for key in group]))
    with client.pipeline(transaction=False) as pipe:
        for group in groups:
            pipe.execute_command("MGET", *group)  # its mget is barred, as the keys could be of several nodes
        return [value for values in pipe.execute() for value in values]
