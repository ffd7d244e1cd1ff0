"""What status and console tell of the features: routes, how fresh each view is, how far each partition is behind."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.clock import SystemClock
from core.errors import DependencyDown
from core.settings import Settings
from core.use_case import UseCase
from features.connection import REDIS_FAULTS, connect
from features.online.inspection import freshness
from features.streaming.lag import lag
from features.streams import Keys
from serving.gateway_report import Report
from serving.routing import Route

if TYPE_CHECKING:
    import redis

_TIMEOUT_S = 2.0
_COUNTED = ("events", "duplicates", "late")


@dataclass(frozen=True)
class Freshness:
    """How far what is served lies behind what has happened.

    Args:
        waiting_s: age of the oldest event that is not applied to the features yet; 0 if there is none.
        last_event_s: age of the newest entry of the event log; None if there is none.
        last_prediction_s: the same for predictions.
        last_label_s: the same for labels.
    """

    waiting_s: float
    last_event_s: float | None
    last_prediction_s: float | None
    last_label_s: float | None


@dataclass(frozen=True)
class PartitionStatus:
    """One partition of the event log.

    Args:
        partition: its number.
        waiting_entries: about how many entries wait to be applied.
        waiting_s: age of the oldest of them; 0 if there is none.
        log_entries: entries that are not in the offline log yet, applied or not.
        events: events counted since Redis was filled.
        duplicates: events left out because their id was seen before.
        late: events that came too late for every window.
    """

    partition: int
    waiting_entries: int
    waiting_s: float
    log_entries: int
    events: int
    duplicates: int
    late: int


@dataclass(frozen=True)
class ViewStatus:
    """One stored view.

    Args:
        newest_at: moment of its newest data, ISO 8601; None if it has none.
        age_s: how long ago that is; None if it has none, or while history is replayed.
    """

    newest_at: str | None
    age_s: float | None


@dataclass(frozen=True)
class FeatureStatus:
    """What Redis says.

    Args:
        routes: use case -> where requests are sent.
        reports: what gateways say.
        freshness: of the streams; None if Redis does not answer.
        partitions: of the event log.
        views: use case -> stored view -> its freshness.
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    freshness: Freshness | None = None
    partitions: list[PartitionStatus] = field(default_factory=list)
    views: Mapping[str, Mapping[str, ViewStatus]] = field(default_factory=dict)


def read_features(settings: Settings, use_cases: Iterable[UseCase]) -> FeatureStatus:
    """Ask Redis.

    Raises:
        DependencyDown: if it does not answer.
    """
    keys = Keys(settings.redis.namespace)
    try:
        with connect(settings, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as client:
            partitions = _partitions(client, keys, settings.stream.partitions)
            return FeatureStatus(
                routes=_routes(client, keys),
                reports=_reports(client, keys),
                freshness=_freshness(client, keys, partitions),
                partitions=partitions,
                views={use_case.name: _views(client, keys, use_case, settings) for use_case in use_cases},
            )
    except REDIS_FAULTS as error:
        raise DependencyDown("Redis", str(error)) from error


def _routes(client: redis.Redis, keys: Keys) -> dict[str, Route]:
    found: Any = client.hgetall(keys.routes)
    routes = {}
    for name, value in found.items():
        with suppress(ValueError):  # the deployer writes it anew
            routes[name.decode()] = Route.decode(value)
    return routes


def _reports(client: redis.Redis, keys: Keys) -> list[Report]:
    found: Any = client.hvals(keys.gateways)
    reports = []
    for value in found:
        with suppress(ValueError):
            reports.append(Report.decode(value))
    return reports


def _partitions(client: redis.Redis, keys: Keys, partitions: int) -> list[PartitionStatus]:
    found = []
    for number, behind in enumerate(lag(client, keys, partitions)):
        counts: Any = client.hmget(keys.counters(number), _COUNTED)
        counted = {name: int(count or 0) for name, count in zip(_COUNTED, counts, strict=True)}
        waiting_s = round(behind.seconds, 1)
        found.append(PartitionStatus(number, behind.entries, waiting_s, behind.length, **counted))
    return found


def _freshness(client: redis.Redis, keys: Keys, partitions: list[PartitionStatus]) -> Freshness:
    logs = [keys.log(each.partition) for each in partitions]
    with client.pipeline(transaction=False) as pipe:
        for stream in (*logs, keys.predictions, keys.labels):
            pipe.xinfo_stream(stream)
        *events, prediction, label = (_age_s(info) for info in pipe.execute(raise_on_error=False))
    newest = min((age for age in events if age is not None), default=None)
    return Freshness(max((each.waiting_s for each in partitions), default=0.0), newest, prediction, label)


def _age_s(info: Any) -> float | None:
    """Age of the newest entry a stream ever had: written entries are trimmed. None if there was no stream yet."""
    if isinstance(info, Exception):
        return None
    return round(max(0.0, time.time() - int(info["last-generated-id"].split(b"-")[0]) / 1000), 1)


def _views(client: redis.Redis, keys: Keys, use_case: UseCase, settings: Settings) -> dict[str, ViewStatus]:
    found = freshness(client, keys, use_case, settings.stream.partitions)
    now = SystemClock().now() if settings.clock == "system" else None
    return {name: _view(newest, now) for name, newest in found.items()}


def _view(newest: datetime | None, now: datetime | None) -> ViewStatus:
    if newest is None:
        return ViewStatus(None, None)
    return ViewStatus(newest.isoformat(), round((now - newest).total_seconds(), 1) if now else None)
