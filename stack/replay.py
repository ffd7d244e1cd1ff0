"""Replaying history through the running stack, in event time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import aiohttp
import pandas as pd

from core.errors import EvergreenError, StackError
from core.ledger import Ledger
from core.settings import Settings
from core.use_case import History, ReplaySpan, UseCase
from features.connection import connect
from features.definitions import feature_set
from features.offline.importing import import_history
from features.streaming.worker import settle, wait_applied
from features.streams import Keys
from stack.traffic import Record, Traffic, rolling_log_loss

_LIVE_TIMEOUT_S = 120.0
_APPLY_TIMEOUT_S = 60.0


class Orchestrator(Protocol):
    """Runs flows and waits for them; ``flows.client`` is the real one."""

    def run(self, name: str, parameters: Mapping[str, str]) -> None:
        """Run a deployment such as ``monitor/monitor`` to its end; raise EvergreenError unless it completed."""
        ...

    def wait_for_triggered(self, decision_id: int) -> None:
        """Wait for the end of the run that a decision's event started."""
        ...


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """What is replayed.

    Args:
        use_case: whose history.
        history: its past.
        span: which part of it; questions before its first training are imported, not asked.
    """

    use_case: UseCase
    history: History
    span: ReplaySpan


@dataclass(frozen=True)
class Retrain:
    """A retrain that happened during the replay.

    Args:
        at: event time of the decision.
        reason: what called for it: first, performance, drift or schedule.
        version: what it registered; None if nothing.
        promoted: whether it went live.
        seconds: from the decision to its answering, or to the verdict.
        fingerprint: of the training set; None if there was none.
    """

    at: datetime
    reason: str
    version: str | None
    promoted: bool
    seconds: float
    fingerprint: str | None = None


@dataclass
class Progress:
    """Where the replay stands, for display."""

    now: datetime
    version: str = "-"
    log_loss: float = float("nan")
    doing: str = "replaying"
    predictions: int = 0


@dataclass
class ReplayResult:
    """What came of it."""

    record: Record
    retrains: list[Retrain] = field(default_factory=list)


class Replay:
    """Sends a history through the gateway and lets the stack look after itself.

    Each tick sends what happened in it: predictions are asked, events stream in, labels come back, with
    ``X-Evergreen-Now`` at the tick's end. Between ticks the schedules of the policy are kept in event time.

    Args:
        settings: of the running stack; its clock must be ``event``.
        plan: what to replay.
        orchestrator: runs the flows.
        show: called with the progress now and then.
    """

    def __init__(
        self, settings: Settings, plan: ReplayPlan, orchestrator: Orchestrator, show: Callable[[Progress], None]
    ) -> None:
        if settings.clock != "event":
            raise StackError(f"A replay needs EVERGREEN_CLOCK=event, it is {settings.clock!r}.")
        self._settings = settings
        self._plan = plan
        self._orchestrator = orchestrator
        self._show = show
        self._keys = Keys(settings.redis.namespace)
        self._redis = connect(settings, socket_timeout=10)
        self._ledger = Ledger(settings.ledger_url)
        self._progress = Progress(plan.span.start)
        self._retrains: list[Retrain] = []
        lateness = feature_set(plan.use_case).lateness
        if plan.span.tick > lateness:
            raise StackError(f"A tick of {plan.span.tick} is longer than the features' lateness {lateness}.")

    def run(self) -> ReplayResult:
        """Replay from start to end."""
        return asyncio.run(self._run())

    async def _run(self) -> ReplayResult:
        plan, policy = self._plan, self._plan.use_case.policy
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=15), timeout=timeout
        ) as session:
            traffic = Traffic(session, self._settings.gateway_url, plan.use_case)
            materialize_at = plan.span.start + policy.materialize_every
            monitor_at = plan.span.first_training + policy.monitor_every
            now, is_live = plan.span.start, False
            while now < plan.span.end:
                if now >= materialize_at:
                    await self._flow("materialize/materialize", now, "refreshing batch features")
                    await asyncio.to_thread(settle, self._redis, self._keys, self._settings.stream.partitions)
                    materialize_at = now + policy.materialize_every
                if not is_live and now >= plan.span.first_training:
                    await self._first_version(session, now)
                    is_live = True
                elif is_live and now >= monitor_at:
                    await self._monitor(session, now)
                    monitor_at = now + policy.monitor_every
                now += plan.span.tick
                await self._tick(traffic, now - plan.span.tick, now, is_live)
                self._display(traffic, now)
        return ReplayResult(traffic.record, self._retrains)

    async def _tick(self, traffic: Traffic, since: datetime, until: datetime, is_live: bool) -> None:
        requests, labels = (self._between(f, since, until) for f in (self._plan.history.requests, self._labels))
        if is_live:
            await traffic.predict(requests, until)
        sent = [
            traffic.send_events(source, self._between(events, since, until), until)
            for source, events in self._plan.history.events.items()
        ]
        answered = traffic.send_labels(labels if is_live else labels.iloc[:0], until)
        *reached, _ = await asyncio.gather(*sent, answered)
        newest: dict[int, int] = {}
        for partition, position in (pair for positions in reached if positions for pair in positions.items()):
            newest[partition] = max(position, newest.get(partition, 0))
        await asyncio.to_thread(wait_applied, self._redis, self._keys, newest, timeout_s=_APPLY_TIMEOUT_S)

    async def _first_version(self, session: aiohttp.ClientSession, now: datetime) -> None:
        plan = self._plan
        past = self._between(plan.history.requests, plan.span.start, now)
        known = self._between(self._labels, plan.span.start, now)
        import_history(self._redis, self._keys, plan.use_case, past, known[known["key"].isin(past["key"])])
        started = time.monotonic()
        await self._flow("retrain/retrain", now, "training the first version", reason="first version")
        await self._finish_retrain(session, now, "first", 0, started)
        if not self._retrains[-1].promoted:
            raise StackError(f"The first version of {plan.use_case.name} was not promoted: {self._last_reason()}")

    async def _monitor(self, session: aiohttp.ClientSession, now: datetime) -> None:
        await self._flow("monitor/monitor", now, "looking at drift and performance")
        name = self._plan.use_case.name
        decision = next(iter(self._ledger.entries(name, kind="trigger", limit=1)), None)
        if decision is None or decision.action != "retrain":
            return
        started = time.monotonic()
        trigger = str(decision.evidence.get("trigger", "unknown"))
        self._say(f"retraining ({trigger})")
        await asyncio.to_thread(self._orchestrator.wait_for_triggered, decision.id)
        await self._finish_retrain(session, now, trigger, decision.id, started)

    async def _finish_retrain(
        self, session: aiohttp.ClientSession, now: datetime, reason: str, after: int, started: float
    ) -> None:
        entries = [e for e in self._ledger.entries(self._plan.use_case.name) if e.id > after]
        promotion = next((e for e in entries if e.kind == "promotion" and e.action == "promote"), None)
        gate = next((e for e in entries if e.kind == "gate"), None)
        if promotion is not None and promotion.version is not None:
            self._say(f"deploying version {promotion.version}")
            await self._live(session, promotion.version)
        decided = promotion or gate
        version = decided.version if decided else None
        seconds, fingerprint = time.monotonic() - started, gate.evidence.get("fingerprint") if gate else None
        self._retrains.append(Retrain(now, reason, version, promotion is not None, seconds, fingerprint))

    async def _live(self, session: aiohttp.ClientSession, version: str) -> None:
        url = f"{self._settings.gateway_url}/v1/models/{self._plan.use_case.name}"
        deadline = time.monotonic() + _LIVE_TIMEOUT_S
        while time.monotonic() < deadline:
            async with session.get(url) as response:
                if (await response.json()).get("version") == version:
                    self._progress.version = version
                    return
            await asyncio.sleep(0.05)
        raise StackError(
            f"Version {version} was promoted but did not go live within {_LIVE_TIMEOUT_S:.0f} s. "
            "See the deployer's log in the home folder."
        )

    async def _flow(self, name: str, now: datetime, doing: str, **more: str) -> None:
        self._say(doing)
        parameters = {"use_case": self._plan.use_case.name, "as_of": now.isoformat(), **more}
        await asyncio.to_thread(self._orchestrator.run, name, parameters)
        self._say("replaying")

    def _between(self, frame: pd.DataFrame, since: datetime, until: datetime) -> pd.DataFrame:
        first, last = (int(frame["at"].searchsorted(pd.Timestamp(moment), "right")) for moment in (since, until))
        return frame.iloc[first:last]

    @property
    def _labels(self) -> pd.DataFrame:
        return self._plan.history.labels

    def _last_reason(self) -> str:
        newest = self._ledger.entries(self._plan.use_case.name, limit=1)
        return newest[0].reason if newest else "the retrain recorded nothing"

    def _say(self, doing: str) -> None:
        self._progress.doing = doing
        self._show(self._progress)

    def _display(self, traffic: Traffic, now: datetime) -> None:
        self._progress.now = now
        self._progress.predictions = traffic.record.predictions
        if now.hour < self._plan.span.tick.total_seconds() / 3600 and traffic.record.predictions:
            upto = int(self._labels["at"].searchsorted(pd.Timestamp(now), "right"))
            self._progress.log_loss = rolling_log_loss(traffic.record, self._labels.iloc[:upto])
        self._show(self._progress)


class PrefectOrchestrator:
    """Runs flows on the stack's Prefect."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.prefect_api_url

    def run(self, name: str, parameters: Mapping[str, str]) -> None:
        """See Orchestrator."""
        from flows.client import run_deployment

        _require(run_deployment(name, parameters, api_url=self._url))

    def wait_for_triggered(self, decision_id: int) -> None:
        """See Orchestrator."""
        from flows.client import wait_for_triggered

        _require(wait_for_triggered(decision_id, api_url=self._url))


def _require(result: Any) -> None:
    if not result.completed:
        raise EvergreenError(
            f"The flow run {result.name} ended as {result.state}: {result.message}. Look at it in the Prefect UI."
        )
