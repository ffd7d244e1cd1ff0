"""Keeping the local processes alive: a supervisord of our own, its configuration and its control socket."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import StackError
from core.settings import Settings
from stack.environment import PROCESS_MARKER, child_environment, stack_marker
from stack.processes import Command, Process

# sun_path holds 108 bytes with its final zero on Linux, 104 on macOS; supervisord binds "<path>.<pid>" first
_LONGEST_SOCKET_PATH = 103 - len(".1234567")
_LOG_BYTES = 10_000_000
_LOG_BACKUPS = 2
_TAIL_BYTES = 20_000
_POLL_S = 0.1


@dataclass(frozen=True)
class ProcessState:
    """What supervisord knows of a process.

    Args:
        name: the process.
        state: supervisord's word: RUNNING, STARTING, BACKOFF, EXITED, FATAL, STOPPED, STOPPING.
        pid: 0 if it does not run.
        started_at: when it was last started.
        uptime_s: seconds since then; 0 if it does not run.
        problem: why it could not be started, if so.
    """

    name: str
    state: str
    pid: int
    started_at: datetime
    uptime_s: float
    problem: str = ""


class Supervisor:
    """The supervisord of one home folder.

    Args:
        settings: with absolute folders.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.logs = settings.home / "logs"
        self._run = settings.home / "run"
        self._configuration = self._run / "supervisord.conf"
        self._socket = _socket_path(self._run, stack_marker(settings))

    def pid(self) -> int | None:
        """Its process id, or None if it does not run."""
        try:
            return int(self._call("supervisor.getPID"))
        except (OSError, xmlrpc.client.Error):
            return None

    def launch(self, commands: Mapping[str, Command], processes: Iterable[Process]) -> None:
        """Start supervisord in the background; it starts all the processes at once.

        Raises:
            StackError: if it does not come up.
        """
        for folder in (self._run, self._socket.parent):
            _make_private(folder)
        self.logs.mkdir(exist_ok=True)
        text = self._supervisord_section() + "".join(
            self._program_section(process, commands[process.name]) for process in processes
        )
        self._configuration.touch(mode=0o600)
        self._configuration.write_text(text)
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        started = subprocess.run(
            argv, env=child_environment(self._settings), cwd=self._run, capture_output=True, text=True, check=False
        )
        if started.returncode != 0:
            raise StackError(
                f"supervisord could not be started: {(started.stderr or started.stdout).strip()[-500:]}. "
                f"Its configuration is {self._configuration}."
            )
        self._wait_until_it_answers()

    def states(self) -> dict[str, ProcessState]:
        """What it knows of each process, by name.

        Raises:
            StackError: if supervisord does not run.
        """
        return {info["name"]: _state(info) for info in self._asked("supervisor.getAllProcessInfo")}

    def start(self, name: str) -> None:
        """Start a process that has been stopped or given up; no effect on one that runs."""
        self._asked("supervisor.startProcess", name, False)

    def stop(self, names: Iterable[str]) -> None:
        """Tell processes to stop, all at once, and wait until they have; those that do not are killed."""
        waiting = set(names)
        for name in waiting:
            self._asked("supervisor.stopProcess", name, False)
        while any(state.pid for name, state in self.states().items() if name in waiting):
            time.sleep(_POLL_S)

    def shutdown(self) -> None:
        """End supervisord, and with it whatever it still runs; returns when it is gone."""
        pid = self.pid()
        if pid is None:
            return
        self._asked("supervisor.shutdown")
        while _exists(pid):
            time.sleep(_POLL_S / 2)

    def restarts(self) -> dict[str, int]:
        """How often each process was started again since supervisord began, read from its log."""
        try:
            text = (self.logs / "supervisord.log").read_text(errors="replace")
        except OSError:
            return {}
        since = text.rpartition("supervisord started with pid")[2]
        counts: dict[str, int] = {}
        for name in re.findall(r"spawned: '([^']+)' with pid", since):
            counts[name] = counts.get(name, -1) + 1
        return counts

    def log_file(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.logs / f"{name}.log"

    def last_lines(self, name: str, count: int = 12) -> str:
        """The end of what a process wrote."""
        try:
            with self.log_file(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.strip().splitlines()[-count:])

    def _asked(self, method: str, *arguments: object) -> Any:
        try:
            return self._call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultString.split(":")[0] in ("ALREADY_STARTED", "NOT_RUNNING"):
                return None
            raise StackError(f"supervisord refused {method}: {fault.faultString}. See {self.logs}.") from fault
        except (OSError, xmlrpc.client.Error) as error:
            raise StackError(f"supervisord does not answer on {self._socket} ({error}). Run: evergreen up") from error

    def _call(self, method: str, *arguments: object) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            return getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport), method)(*arguments)
        finally:
            transport.close()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 20
        while self.pid() is None:
            if time.monotonic() > deadline:
                raise StackError(
                    f"supervisord did not answer within 20 s. Its log says: {self.last_lines('supervisord', 3)}"
                )
            time.sleep(_POLL_S / 2)

    def _supervisord_section(self) -> str:
        return (
            _section("unix_http_server", {"file": self._socket, "chmod": "0700"})
            + _section(
                "supervisord",
                {
                    "logfile": self.log_file("supervisord"),
                    "logfile_maxbytes": _LOG_BYTES,
                    "logfile_backups": 1,
                    "pidfile": self._run / "supervisord.pid",
                    "directory": self._run,
                    "nodaemon": "false",
                },
            )
            + _section(
                "rpcinterface:supervisor",
                {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
            )
        )

    def _program_section(self, process: Process, command: Command) -> str:
        takeover = (sys.executable, "-m", "stack.takeover", process.name) if process.leaves_children else ()
        env = {**command.env, PROCESS_MARKER: process.name}
        return _section(
            f"program:{process.name}",
            {
                "command": shlex.join(takeover + command.argv),
                "directory": command.cwd,
                "environment": ",".join(f"{name}={_quoted(name, value)}" for name, value in env.items()),
                "autostart": "true",
                "autorestart": "true",
                "startsecs": 1,
                "startretries": 1000,  # never give up: what is missing may come back
                "stopwaitsecs": process.stop_s,
                "stopasgroup": "true",
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": self.log_file(process.name),
                "stdout_logfile_maxbytes": _LOG_BYTES,
                "stdout_logfile_backups": _LOG_BACKUPS,
            },
        )


def _section(title: str, values: Mapping[str, object]) -> str:
    lines = [f"{name} = {str(value).replace('%', '%%')}" for name, value in values.items() if value != ""]
    return "\n".join([f"[{title}]", *lines, "", ""])


def _quoted(name: str, value: str) -> str:
    """A value for supervisord's list of variables, which knows quotes but no escapes."""
    for quote in ('"', "'"):
        if quote not in value and "\n" not in value:
            return f"{quote}{value}{quote}"
    raise StackError(f"{name} holds both kinds of quotes or a line break, which cannot be passed on. Change it.")


def _state(info: Mapping[str, Any]) -> ProcessState:
    running = bool(info["pid"])
    return ProcessState(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"],
        started_at=datetime.fromtimestamp(info["start"], UTC),
        uptime_s=max(0.0, float(info["now"] - info["start"])) if running else 0.0,
        problem=info["spawnerr"],
    )


def _socket_path(run: Path, marker: str) -> Path:
    """In the run folder, or in a private temporary folder if the path would be too long for a socket."""
    path = run / "supervisor.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"evergreen-{os.getuid()}-{marker}" / "supervisor.sock"


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise StackError(f"{folder} belongs to another user. Remove it, or set another EVERGREEN_HOME.")
    folder.chmod(0o700)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
