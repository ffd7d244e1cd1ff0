"""The local stack as a whole: bringing it up, taking it down."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from core.errors import StackError
from core.settings import Settings
from stack.environment import absolute, settings_environment
from stack.preflight import require_startable, require_writable
from stack.processes import Process, declared_processes
from stack.supervision import ProcessState, Supervisor
from stack.sweep import end_members

Report = Callable[[str, str], None]
"""Told the name of a process and what became of it: ``starting``, ``ready``, ``stopping`` or ``stopped``."""

_READY_WITHIN_S = 180.0
_POLL_S = 0.1
_STARTS_BEFORE_GIVING_UP = 4
_EXITED = "Exited too quickly"  # supervisord's words for a program that could be started, and ended


@dataclass(frozen=True)
class Started:
    """How bringing the stack up went.

    Args:
        already_up: everything ran and answered before.
        seconds: how long it took.
    """

    already_up: bool
    seconds: float


class LocalStack:
    """The processes of one home folder.

    Args:
        settings: the settings; relative folders are relative to the working folder.
        declare: what to run, given the settings.

    Example:
        >>> stack = LocalStack(Settings(home="/tmp/eg"))
        >>> [process.name for process in stack.processes][:3]
        ['redis', 'mlflow', 'prefect-server']
    """

    def __init__(self, settings: Settings, declare: Callable[[Settings], list[Process]] = declared_processes) -> None:
        self.settings = absolute(settings)
        self.processes = declare(self.settings)
        self.supervisor = Supervisor(self.settings)
        self._fingerprint_file = self.settings.home / "run" / "settings.sha256"

    def up(self, report: Report = lambda name, state: None) -> Started:
        """Start what does not run, and return when everything does its work.

        Raises:
            StackError: naming what prevents it. A stack that was started in vain is taken down again.
        """
        began = time.monotonic()
        with self._alone():
            fresh = self.supervisor.pid() is None
            if fresh:
                self._launch()
            elif not self._fingerprint_file.exists() or self._fingerprint_file.read_text() != self._fingerprint():
                raise StackError(
                    f"The stack in {self.settings.home} runs with other settings. Run: evergreen down, then up again."
                )
            elif self._all_ready():
                return Started(already_up=True, seconds=time.monotonic() - began)
            else:
                self._start_stopped()
            try:
                self._wait_until_ready(report)
            except (StackError, KeyboardInterrupt):
                if fresh:
                    self._take_down(lambda name, state: None)
                raise
        return Started(already_up=False, seconds=time.monotonic() - began)

    def down(self, report: Report = lambda name, state: None) -> list[str]:
        """Stop everything, users before what they use, and make sure that nothing is left.

        Returns:
            Processes that had to be ended one by one, as ``pid name``.
        """
        if not self.settings.home.is_dir():
            return end_members(self.settings)
        with self._alone():
            return self._take_down(report)

    def is_up(self) -> bool:
        """Whether it has been started."""
        return self.supervisor.pid() is not None

    def _launch(self) -> None:
        end_members(self.settings)  # what a supervisor that was killed left behind
        require_startable(self.settings, self.processes)
        self._prepare_ledger()
        commands = {process.name: process.command() for process in self.processes}
        self.supervisor.launch(commands, self.processes)
        self._fingerprint_file.write_text(self._fingerprint())

    def _fingerprint(self) -> str:
        """Changes with every setting and with the set of processes."""
        facts = [*sorted(settings_environment(self.settings).items()), *(process.name for process in self.processes)]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _prepare_ledger(self) -> None:
        from core.ledger import Ledger

        with closing(Ledger(self.settings.ledger_url)) as ledger:
            ledger.migrate()

    def _start_stopped(self) -> None:
        for state in self.supervisor.states().values():
            if not state.pid:
                self.supervisor.start(state.name)

    def _all_ready(self) -> bool:
        states = self.supervisor.states()
        return all(_is_ready(process, states.get(process.name)) for process in self.processes)

    def _wait_until_ready(self, report: Report) -> None:
        waiting = {process.name: process for process in self.processes}
        starts: dict[str, set[float]] = {name: set() for name in waiting}
        for name in waiting:
            report(name, "starting")
        deadline = time.monotonic() + _READY_WITHIN_S
        while waiting:
            states = self.supervisor.states()
            for name, process in list(waiting.items()):
                state = states.get(name)
                if _is_ready(process, state):
                    del waiting[name]
                    report(name, "ready")
                elif state is not None:
                    starts[name].add(state.started_at.timestamp())
                    self._require_hope(state, len(starts[name]))
            if time.monotonic() > deadline:
                raise self._failure(next(iter(waiting)), f"was not ready after {_READY_WITHIN_S:.0f} s")
            if waiting:
                time.sleep(_POLL_S)

    def _require_hope(self, state: ProcessState, starts: int) -> None:
        if state.problem and not state.problem.startswith(_EXITED):
            raise self._failure(state.name, f"cannot be started ({state.problem})")
        if state.state == "FATAL" or starts >= _STARTS_BEFORE_GIVING_UP:
            raise self._failure(state.name, "ends again and again")

    def _failure(self, name: str, what: str) -> StackError:
        return StackError(
            f"{name} {what}. The end of its log ({self.supervisor.log_file(name)}):\n"
            f"{self.supervisor.last_lines(name) or '(empty)'}"
        )

    def _take_down(self, report: Report) -> list[str]:
        if self.supervisor.pid() is not None:
            supervised = self.supervisor.states()
            for wave in stop_waves([process for process in self.processes if process.name in supervised]):
                for name in wave:
                    report(name, "stopping")
                self.supervisor.stop(wave)
                for name in wave:
                    report(name, "stopped")
            self.supervisor.shutdown()
        return end_members(self.settings)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the home folder against another ``up`` or ``down``."""
        require_writable(self.settings.home)
        path = self.settings.home / "stack.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackError(
                    f"Another evergreen up or down works on {self.settings.home}. Wait until it has ended."
                ) from error
            yield


def stop_waves(processes: list[Process]) -> list[list[str]]:
    """Names in the order of stopping: each wave is needed by nothing that still runs.

    Example:
        >>> [wave[0] for wave in stop_waves(LocalStack(Settings(home="/tmp/eg")).processes)]
        ['stream-worker', 'mlflow', 'redis']
    """
    left = {process.name: process for process in processes}
    waves = []
    while left:
        needed = {need for process in left.values() for need in process.needs}
        wave = [name for name in left if name not in needed] or list(left)
        waves.append(wave)
        for name in wave:
            del left[name]
    return waves


def _is_ready(process: Process, state: ProcessState | None) -> bool:
    return state is not None and state.state == "RUNNING" and process.ready(state.started_at)
