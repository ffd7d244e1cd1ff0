"""The state of the whole: each process, each use case. Only reads, and says so where something does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DependencyDown, EvergreenError, StackError
from core.settings import Settings
from serving.feature_status import FeatureStatus, Freshness, PartitionStatus, ViewStatus, read_features
from serving.rollout_status import RolloutStatus, rollout_status
from stack.judged import Judged, read_judged
from stack.local import LocalStack
from stack.processes import External, Process, external_services
from stack.supervision import ProcessState

if TYPE_CHECKING:
    from core.ledger import Entry, Ledger
    from core.use_case import UseCase

_LAST_DECISIONS, _DECISIONS = 5, 50
_TRIGGERS = 50
_MONITOR = "flow monitor"
_NOT_STARTED = "not started"
_ALARM = "alarm"
_ALERTS = 200
_QUIET = (("audit", "pass"), ("aftermath", "wait"))


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


@dataclass(frozen=True, kw_only=True)
class UseCaseStatus(Judged):
    """One use case, and how it does.

    Args:
        name: its name.
        champion: the version that was deployed last, by the ledger; None if none was.
        since: when, ISO 8601.
        generation: the how-manieth deployment it is.
        routed_version: the version that requests are sent to; None if none, or if Redis does not answer.
        split: who gets how much of the traffic, and how each version does.
        monitor: the newest look's decision with all its evidence; None if there was none.
        audit: the newest comparison of served features with the log; None if there was none.
        views: how fresh each stored view is, by name; empty if Redis does not answer.
        last_decisions: the newest first, without audits that found nothing and aftermaths that wait.
    """

    name: str
    champion: str | None
    since: str | None
    generation: int | None
    routed_version: str | None
    split: RolloutStatus
    monitor: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    views: Mapping[str, ViewStatus]
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
        partitions: how far each partition of the event log is behind; empty if Redis does not answer.
        problems: what could not be found out, and why; and features that are served wrong.
    """

    stack: str
    home: str
    processes: list[ProcessStatus]
    use_cases: list[UseCaseStatus]
    freshness: Freshness | None
    partitions: list[PartitionStatus]
    problems: list[str]

    @property
    def alarms(self) -> list[str]:
        """Features that are served wrong, one sentence per use case."""
        audits = ((each.name, each.audit) for each in self.use_cases if each.audit)
        return [f"{name}: {audit['reason']}" for name, audit in audits if audit["action"] == _ALARM]

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
    declared = _declared(stack.settings.models_dir, problems)
    features = _features(stack.settings, declared, problems) if _answers("redis", processes) else FeatureStatus()
    use_cases = _use_cases(stack.settings, declared, features, problems)
    healthy = [process.healthy for process in processes]
    word = "up" if all(healthy) else "degraded" if any(healthy) else "down"
    home, freshness = str(stack.settings.home), features.freshness
    found = Status(word, home, processes, use_cases, freshness, features.partitions, problems)
    return replace(found, problems=[*problems, *found.alarms])


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


def _features(settings: Settings, declared: Mapping[str, UseCase], problems: list[str]) -> FeatureStatus:
    try:
        return read_features(settings, declared.values())
    except DependencyDown as error:
        problems.append(f"{error}; routes and freshness are unknown")
        return FeatureStatus()


def _declared(models_dir: Path, problems: list[str]) -> Mapping[str, UseCase]:
    from core.discovery import discover

    try:
        return {name: found.use_case for name, found in discover(models_dir).items()}
    except EvergreenError as error:
        problems.append(str(error))
        return {}


def _use_cases(
    settings: Settings, declared: Mapping[str, UseCase], features: FeatureStatus, problems: list[str]
) -> list[UseCaseStatus]:
    from core.ledger import Ledger

    names = sorted({*features.routes, *declared})
    if not settings.ledger.url and not (settings.home / "ledger.db").exists():
        problems.append("there is no ledger yet")
        return [_use_case(None, name, features) for name in names]
    try:
        with closing(Ledger(settings.ledger_url)) as ledger:
            return [_use_case(ledger, name, features) for name in names]
    except Exception as error:  # whatever the database's driver raises, the rest of the status is still worth showing
        problems.append(f"the ledger does not answer ({error})")
        return []


def _use_case(ledger: Ledger | None, name: str, features: FeatureStatus) -> UseCaseStatus:
    from serving.standing import read_standing

    deployments = ledger.deployments(name) if ledger else []
    standing = read_standing(ledger, name) if ledger else None
    live, route = deployments[0] if deployments else None, features.routes.get(name)
    triggers = ledger.entries(name, kind="trigger", limit=_TRIGGERS) if ledger else []
    audits = ledger.entries(name, kind="audit", limit=1) if ledger else []
    aftermaths = ledger.entries(name, kind="aftermath", limit=1) if ledger else []
    alerts = ledger.entries(name, kind="alert", limit=_ALERTS) if ledger else []
    decisions = ledger.entries(name, limit=_DECISIONS) if ledger else []
    waits = ledger.entries(name, actions=("hold", "refuse", "withdraw", "orphan"), limit=_TRIGGERS) if ledger else []
    looks = [entry for entry in triggers if entry.actor == _MONITOR]
    told = [entry for entry in decisions if (entry.kind, entry.action) not in _QUIET]
    judged = read_judged(looks[0] if looks else None, aftermaths[0] if aftermaths else None, alerts)
    return UseCaseStatus(
        **vars(judged),
        name=name,
        champion=live.version if live else None,
        since=live.deployed_at.isoformat() if live else None,
        generation=live.generation if live else None,
        routed_version=route.version if route else None,
        split=rollout_status(name, route, features.reports, deployments, standing, waits),
        monitor=entry_json(looks[0]) if looks else None,
        audit=entry_json(audits[0]) if audits else None,
        views=features.views.get(name, {}),
        last_decisions=[entry_json(entry) for entry in told[:_LAST_DECISIONS]],
    )


def entry_json(entry: Entry) -> dict[str, Any]:
    """A ledger entry as JSON."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "action": entry.action,
        "reason": entry.reason,
        "version": entry.version,
        "actor": entry.actor,
        "as_of": entry.as_of.isoformat(),
        "recorded_at": entry.recorded_at.isoformat(),
        "evidence": dict(entry.evidence),
    }
