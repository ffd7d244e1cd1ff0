"""Several gateway processes on one port: started, replaced when they die, and ended together."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import multiprocess

logger = logging.getLogger(__name__)
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client is told to keep its numbers in files that several processes share."""
_LOOK_EVERY_S = 0.1
_TOO_SOON_S = 2.0
_MOST_IN_A_ROW = 5


class Processes:
    """Runs the same module several times, each with the listening socket as its first argument.

    One that dies is replaced at once; the connections it had are broken, those that wait to be accepted are taken by
    the others. If they die again and again right after their start, everything ends.

    Args:
        module: what to run with ``python -m``.
        listener: the socket that all of them accept from.
        environment: their variables.
        metrics: the folder in which they keep their metrics together; emptied here.
    """

    def __init__(self, module: str, listener: socket.socket, environment: Mapping[str, str], metrics: Path) -> None:
        self._module = module
        self._listener = listener
        self._metrics = metrics
        self._environment = {**environment, METRICS_FOLDER: str(metrics)}
        self._stop = threading.Event()
        self._early_ends = 0

    def run(self, n: int) -> int:
        """Run n processes until SIGTERM or SIGINT, then have each answer what it accepted.

        Returns:
            0 after an orderly end; else what the processes ended with.
        """
        for orderly in (signal.SIGTERM, signal.SIGINT):
            signal.signal(orderly, lambda *_: self._stop.set())
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True)
        running = {self._start(): time.monotonic() for _ in range(n)}
        status = 0
        while not status and not self._stop.wait(_LOOK_EVERY_S):
            for child, began_s in list(running.items()):
                if child.poll() is not None:
                    del running[child]
                    status = self._judge(child, began_s)
                    if not status:
                        running[self._start()] = time.monotonic()
        for child in running:
            child.send_signal(signal.SIGTERM)
        for child in running:
            child.wait()
        return status

    def _start(self) -> subprocess.Popen[bytes]:
        fd = self._listener.fileno()
        argv = (sys.executable, "-m", self._module, str(fd))
        return subprocess.Popen(argv, env=self._environment, pass_fds=[fd], stdin=subprocess.PIPE)

    def _judge(self, child: subprocess.Popen[bytes], began_s: float) -> int:
        """What to end with because of a process that ended; 0 to go on."""
        if child.stdin is not None:
            child.stdin.close()
        multiprocess.mark_process_dead(child.pid, str(self._metrics))  # type: ignore[no-untyped-call]
        logger.warning("The gateway process %d has ended (%s) and is replaced.", child.pid, child.returncode)
        self._early_ends = self._early_ends + 1 if time.monotonic() - began_s < _TOO_SOON_S else 0
        return 0 if self._early_ends < _MOST_IN_A_ROW else child.returncode or 1


def end_with_parent() -> None:
    """End in good order when the parent is gone: it holds the other end of standard input."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
