"""The running stack, as a drill sees it: what is asked of it, and what is done to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import redis

from core.clock import SystemClock
from core.errors import DependencyDown, StackError, Unavailable
from core.ledger import Ledger
from features.connection import REDIS_FAULTS, connect
from features.streams import Keys
from registry.mlflow_registry import MlflowRegistry
from registry.versions import Desired
from serving.promoting import Promotions
from serving.routes import RedisRouteTable, is_followed
from serving.standing import read_standing
from serving.torchserve.host import TorchServeHost
from serving.wakes import RedisWakes
from serving.wanted import CHAMPION
from stack.drill.answers import Phase
from stack.drill.memo import Memo, MemoFile
from stack.drill.mlflow_api import MlflowApi
from stack.local import LocalStack

KIND = "drill"
_LOOK_AGAIN_S = 0.05
_TIMEOUT_S = 5.0


@dataclass
class Scene:
    """Handles to one stack, and what a drill knows of it.

    Args:
        stack: the running one.
        use_case: who is drilled.
        actor: who drills, for the ledger.
        registry: MLflow.
        promotions: moves aliases there, and says so in the ledger.
        api: MLflow's REST API, to undo things.
        ledger: the ledger.
        client: Redis.
        routes: who answers.
        wakes: wakes the deployer.
        host: TorchServe; None if versions run in a server elsewhere.
        memos: where is kept what has to be put back.
        live: the version that answers.
        previous: the one before it; None if there was none.
        memo: what has to be put back.
        phases: who may answer clients since when.
        may_move: whether aliases may be moved.
    """

    stack: LocalStack
    use_case: str
    actor: str
    registry: MlflowRegistry
    promotions: Promotions
    api: MlflowApi
    ledger: Ledger
    client: redis.Redis
    routes: RedisRouteTable
    wakes: RedisWakes
    host: TorchServeHost | None
    memos: MemoFile
    live: str = ""
    previous: str | None = None
    memo: Memo = field(default_factory=lambda: Memo("", {}, {}))
    phases: list[Phase] = field(default_factory=list)
    may_move: bool = True

    def remember(self, memo: Memo) -> None:
        """Keep what has to be put back, before it is changed."""
        self.memo = memo
        self.memos.write(memo)

    def expect(self, *versions: str | None) -> None:
        """From now on these versions may answer clients."""
        self.phases.append(Phase(time.monotonic(), frozenset(version for version in versions if version)))

    def until(self, holds: Callable[[], bool], within_s: float) -> float | None:
        """Ask again and again; what does not answer holds nothing.

        Returns:
            Seconds it took; None if it did not come to hold in time.
        """
        began_s = time.monotonic()
        while True:
            try:
                if holds():
                    return time.monotonic() - began_s
            except (Unavailable, StackError):
                pass
            if time.monotonic() - began_s > within_s:
                return None
            time.sleep(_LOOK_AGAIN_S)

    def wanted(self) -> Desired:
        """Aliases and tags in MLflow."""
        return self.registry.desired().get(self.use_case, Desired())

    def make_champion(self, version: str, why: str) -> None:
        """Ask for a version, as ``evergreen promote`` does, and return at once."""
        self.promotions.promote(self.use_case, version, actor=self.actor, reason=f"drill: {why}")

    def take_back(self, why: str) -> None:
        """Go back to the previous version, as ``evergreen rollback`` does, and return at once."""
        self.promotions.rollback(self.use_case, actor=self.actor, reason=f"drill: {why}")

    def is_free(self, version: str) -> bool:
        """Whether a version that was taken back may be champion again: its alias was seen to be gone."""
        return read_standing(self.ledger, self.use_case).barred.get(CHAMPION) != version

    def is_live(self, version: str) -> bool:
        """Whether every gateway sends everything to a version, and the ledger says so."""
        live, route = self.ledger.live(self.use_case), self.routes.routes().get(self.use_case)
        if live is None or route is None or route.canary is not None:
            return False
        is_routed = (live.version, route.version, route.generation) == (version, version, live.generation)
        return is_routed and is_followed(self.routes.reports(), self.use_case, route)

    def wakes_since(self, entry: bytes) -> int:
        """How often the deployer was woken after an entry of `last_wake`."""
        return len(self._read(lambda: self.client.xrange(self._wakes, min=b"(" + entry)))

    def last_wake(self) -> bytes:
        """The newest entry of the stream that wakes the deployer."""
        found = self._read(lambda: self.client.xrevrange(self._wakes, count=1))
        entry: bytes = found[0][0] if found else b"0-0"
        return entry

    def _read(self, entries: Callable[[], Any]) -> Any:
        try:
            return entries()
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", str(error)) from error

    @property
    def _wakes(self) -> str:
        return Keys(self.stack.settings.redis.namespace).wakes

    def loaded(self) -> set[str]:
        """Versions that answer in TorchServe; none if that is not ours."""
        return self.host.loaded().get(self.use_case, set()) if self.host else set()

    def workers(self) -> list[int]:
        """TorchServe's processes that answer for the live version."""
        return self.host.worker_pids(self.use_case, self.live) if self.host else []

    def pid(self, process: str) -> int:
        """The process that supervisord knows by that name; 0 if it does not run."""
        return self.stack.supervisor.states()[process].pid

    def is_back(self, process: str, killed: int) -> bool:
        """Whether another process does the work of one that was killed."""
        state = self.stack.supervisor.states()[process]
        declared = next(known for known in self.stack.processes if known.name == process)
        healthy = declared.healthy or declared.ready
        return state.state == "RUNNING" and state.pid != killed and healthy(state.started_at)

    def kill(self, process: str) -> int:
        """Kill a process of the stack with all that it started, which would else go on to answer; returns its pid.

        Raises:
            StackError: if it does not run.
        """
        known = self.pid(process)
        if not known:
            raise StackError(f"{process} does not run, so it cannot be killed. See: evergreen status")
        family = [psutil.Process(known), *psutil.Process(known).children(recursive=True)]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(family[1:], timeout=_TIMEOUT_S)
        return known

    def kill_child(self, process: str, pid: int) -> None:
        """Kill one of the processes that a process of the stack started.

        Raises:
            StackError: if it is none of these.
        """
        if pid not in {child.pid for child in psutil.Process(self.pid(process)).children(recursive=True)}:
            raise StackError(f"Process {pid} is not one of {process}'s, so it is left alone. See: evergreen status")
        os.kill(pid, signal.SIGKILL)

    def registry_answers(self) -> bool:
        """Whether MLflow can be asked."""
        self.registry.desired()
        return True


@contextmanager
def opened_scene(stack: LocalStack, use_case: str, actor: str) -> Iterator[Scene]:
    """Connect to everything a drill asks, for as long as the block runs."""
    settings = stack.settings
    host = TorchServeHost(settings) if settings.host.kind == "torchserve" else None
    with (
        closing(Ledger(settings.ledger_url)) as ledger,
        closing(connect(settings, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)) as client,
        closing(MlflowApi(settings.mlflow_url)) as api,
    ):
        try:
            registry, wakes = MlflowRegistry(settings.mlflow_url), RedisWakes(client, settings.redis.namespace)
            yield Scene(
                stack=stack, use_case=use_case, actor=actor, registry=registry, api=api, ledger=ledger, client=client,
                routes=RedisRouteTable(client, settings.redis.namespace), host=host, wakes=wakes,
                promotions=Promotions(registry, ledger, SystemClock(), wake=wakes.wake),
                memos=MemoFile(settings.home / "run"),
            )  # fmt: skip
        finally:
            if host is not None:
                host.close()
