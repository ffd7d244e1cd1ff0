"""Flows that do not end well."""

from __future__ import annotations

import os
import signal
import threading

from prefect import flow


@flow
def die() -> None:
    """Killed as the kernel kills what takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@flow
def linger(marker: str) -> None:
    """Leaves its process id in a file and waits to be cancelled."""
    with open(marker, "w") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    threading.Event().wait()
