"""The state of the whole: each process, each use case. Only reads, and says so where something does not answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import EvergreenError, StackError
from core.settings import Settings
from stack.local import LocalStack
from stack.processes import External, Process, external_services
from stack.supervision import ProcessState

if TYPE_CHECKING:
    from core.ledger import Entry, Ledger

_LAST_DECISIONS = 5
_TRIGGERS = 50
_MONITOR = "flow monitor"
_NOT_STARTED = "not started"
_REDIS_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class ProcessStatus:
    """One process.

    Args:
        name: its name.
        state: ``running``, ``starting``, ``failing``, ``stopped``, ``not started`` or ``external``.
        healthy: whether it does its work.
        address: where it answers; empty if nowhere.
        pid: its process id; None if it does not run here.
        uptime_s: seconds since it was last started; None if it does not run here.
        restarts: how often it was started again since the stack came up.
        log: its log file; empty if it does not run here.
    """

    name: str
    state: str
    healthy: bool
    address: str
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    log: str = ""


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
class UseCaseStatus:
    """One use case.

    Args:
        name: its name.
        champion: the version that was deployed last, by the ledger; None if none was.
        since: when, ISO 8601.
        generation: the how-manieth deployment it is.
        routed_version: the version that requests are sent to; None if none, or if Redis does not answer.
        monitor: the newest look at drift and performance; None if there was none.
        last_decisions: the newest first.
    """

    name: str
    champion: str | None
    since: str | None
    generation: int | None
    routed_version: str | None
    monitor: Mapping[str, Any] | None
    last_decisions: list[Mapping[str, Any]]


@dataclass(frozen=True)
class Status:
    """The state of the whole.

    Args:
        stack: ``up`` if every process is healthy, ``degraded`` if some are, else ``down``.
        home: the folder of its state.
        processes: every process and external service.
        use_cases: every use case of ``models/`` and of the ledger.
        freshness: None if Redis does not answer.
        problems: what could not be found out, and why.
    """

    stack: str
    home: str
    processes: list[ProcessStatus]
    use_cases: list[UseCaseStatus]
    freshness: Freshness | None
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON; processes and use cases by name."""
        whole = asdict(self)
        for group in ("processes", "use_cases"):
            whole[group] = {member.pop("name"): member for member in whole[group]}
        return whole


def read_status(settings: Settings) -> Status:
    """Ask everything that can be asked."""
    stack = LocalStack(settings)
    problems: list[str] = []
    processes = _processes(stack)
    routes, freshness = _redis_facts(stack.settings, problems) if _answers("redis", processes) else ({}, None)
    use_cases = _use_cases(stack.settings, routes, problems)
    healthy = [process.healthy for process in processes]
    word = "up" if all(healthy) else "degraded" if any(healthy) else "down"
    return Status(word, str(stack.settings.home), processes, use_cases, freshness, problems)


def _processes(stack: LocalStack) -> list[ProcessStatus]:
    try:
        states, restarts = stack.supervisor.states(), stack.supervisor.restarts()
    except StackError:
        states, restarts = {}, {}
    with ThreadPoolExecutor(max_workers=16) as pool:
        local = pool.map(
            lambda process: _process(
                process,
                states.get(process.name),
                restarts.get(process.name, 0),
                str(stack.supervisor.log_file(process.name)),
            ),
            stack.processes,
        )
        elsewhere = pool.map(_external, external_services(stack.settings))
        return [*elsewhere, *local]


def _answers(name: str, processes: list[ProcessStatus]) -> bool:
    """Whether it is ours that answers: another stack's may listen on the same port while ours is down."""
    return any(process.name == name and process.healthy for process in processes)


def _process(process: Process, state: ProcessState | None, restarts: int, log: str) -> ProcessStatus:
    if state is None:
        return ProcessStatus(process.name, _NOT_STARTED, False, process.address)
    probe = process.healthy or process.ready
    return ProcessStatus(
        name=process.name,
        state=_WORDS.get(state.state, state.state.lower()),
        healthy=state.state == "RUNNING" and probe(state.started_at),
        address=process.address,
        pid=state.pid or None,
        uptime_s=state.uptime_s if state.pid else None,
        restarts=restarts,
        log=log,
    )


_WORDS = {"BACKOFF": "failing", "FATAL": "failing", "EXITED": "failing", "STOPPING": "stopped"}


def _external(service: External) -> ProcessStatus:
    return ProcessStatus(service.name, "external", service.healthy(datetime.now(UTC)), service.address)


def _redis_facts(settings: Settings, problems: list[str]) -> tuple[dict[str, str], Freshness | None]:
    import orjson
    import redis

    from features.streams import Keys, entry_id_of

    keys = Keys(settings.redis.namespace)
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=_REDIS_TIMEOUT_S, socket_connect_timeout=_REDIS_TIMEOUT_S
    )
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.routes)
            pipe.get(keys.cursor)
            for stream in (keys.log, keys.predictions, keys.labels):
                pipe.xinfo_stream(stream)
            routes, cursor, *streams = pipe.execute(raise_on_error=False)
        for fault in (routes, cursor):
            if isinstance(fault, redis.RedisError):
                raise fault
        waiting: Any = client.xrange(keys.log, min=f"({entry_id_of(int(cursor or 0))}", count=1)
    except redis.RedisError as error:
        problems.append(f"Redis does not answer ({error}); routes and freshness are unknown")
        return {}, None
    finally:
        client.close()
    routed = {name.decode(): str(orjson.loads(value)["version"]) for name, value in routes.items()}
    event, prediction, label = (_age_s(_newest_id(stream)) for stream in streams)
    return routed, Freshness(_age_s(waiting[0][0] if waiting else None) or 0.0, event, prediction, label)


def _newest_id(stream: Any) -> bytes | None:
    """The id of the newest entry a stream ever had: written entries are trimmed. None if there was no stream yet."""
    return None if isinstance(stream, Exception) else stream["last-generated-id"]


def _age_s(entry_id: bytes | None) -> float | None:
    if entry_id is None:
        return None
    return round(max(0.0, time.time() - int(entry_id.split(b"-")[0]) / 1000), 1)


def _use_cases(settings: Settings, routes: Mapping[str, str], problems: list[str]) -> list[UseCaseStatus]:
    from core.ledger import Ledger

    names = set(routes)
    try:
        names |= _declared(settings.models_dir)
    except EvergreenError as error:
        problems.append(str(error))
    if not settings.ledger.url and not (settings.home / "ledger.db").exists():
        problems.append("there is no ledger yet")
        return [UseCaseStatus(name, None, None, None, routes.get(name), None, []) for name in sorted(names)]
    try:
        with closing(Ledger(settings.ledger_url)) as ledger:
            return [_use_case(ledger, name, routes) for name in sorted(names)]
    except Exception as error:  # whatever the database's driver raises, the rest of the status is still worth showing
        problems.append(f"the ledger does not answer ({error})")
        return []


def _declared(models_dir: Path) -> set[str]:
    from core.discovery import discover

    return set(discover(models_dir))


def _use_case(ledger: Ledger, name: str, routes: Mapping[str, str]) -> UseCaseStatus:
    live = ledger.live(name)
    looks = [entry for entry in ledger.entries(name, kind="trigger", limit=_TRIGGERS) if entry.actor == _MONITOR]
    return UseCaseStatus(
        name=name,
        champion=live.version if live else None,
        since=live.deployed_at.isoformat() if live else None,
        generation=live.generation if live else None,
        routed_version=routes.get(name),
        monitor=entry_json(looks[0]) if looks else None,
        last_decisions=[entry_json(entry) for entry in ledger.entries(name, limit=_LAST_DECISIONS)],
    )


def entry_json(entry: Entry) -> dict[str, Any]:
    """A ledger entry as JSON."""
    return {
        "kind": entry.kind,
        "action": entry.action,
        "reason": entry.reason,
        "version": entry.version,
        "actor": entry.actor,
        "as_of": entry.as_of.isoformat(),
        "recorded_at": entry.recorded_at.isoformat(),
        "evidence": dict(entry.evidence),
    }
