"""A server's processes: started, paused while others are measured, accounted for, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.peers import ROOT
from core.settings import inherited_environment

_READY_S = 120.0
_END_S = 15.0
_LOOK_AGAIN_S = 0.05
_TOLD_BYTES = 3000


class Tree:
    """A process and all it started.

    Args:
        name: for messages and accounts.
        argv: program and arguments.
        log: where its output goes.
        env: variables on top of the inherited ones.
        cwd: folder to run in.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**inherited_environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._child.pid)

    def wait(self, is_ready: Callable[[], bool]) -> None:
        """Return once it is ready.

        Raises:
            RuntimeError: if it ends before, or is not ready within two minutes; with the end of its log.
        """
        until = time.monotonic() + _READY_S
        while True:
            with suppress(Exception):  # whatever fails while it starts means: not yet
                if is_ready():
                    return
            if self._child.poll() is not None or time.monotonic() > until:
                told = self._log.read_bytes()[-_TOLD_BYTES:].decode(errors="replace")
                raise RuntimeError(f"{self.name} did not start:\n{told}")
            time.sleep(_LOOK_AGAIN_S)

    def processes(self) -> list[psutil.Process]:
        """Those that live."""
        with suppress(psutil.NoSuchProcess):
            return [self._root, *self._root.children(recursive=True)]
        return []

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each process so far, by a name that tells them apart."""
        found = {}
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[f"{self.name}, {process.name()} {process.pid}"] = times.user + times.system
        return found

    def waits(self) -> dict[str, int]:
        """How often the threads of each process have waited for something so far, by the names of `cpu_s`."""
        found = {}
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                found[f"{self.name}, {process.name()} {process.pid}"] = waits(process.pid)
        return found

    def resident_bytes(self) -> int:
        """Memory of all processes."""
        total = 0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def pause(self) -> None:
        """Stop all processes where they are, so that they take nothing from others."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End them, by force if need be."""
        self.resume()
        alive = self.processes()
        self._child.terminate()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for process in alive:  # those that outlived it
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def waits(pid: int) -> int:
    """How often the threads of a process have given up the processor by themselves so far."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(status.read_text().split("voluntary_ctxt_switches:")[1].split()[0])
    return total
