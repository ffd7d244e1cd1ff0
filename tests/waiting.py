"""Waiting for what others do without taking the cores from them that they need for it."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

_PAUSE_S = 0.05
_ANSWER_S = 2.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def until(
    holds: Callable[[], object], complaint: object, *, within_s: float = 60.0, pause_s: float = _PAUSE_S
) -> float:
    """Ask again and again.

    Args:
        holds: what is to become true.
        complaint: what to say if it does not; its text is only made then.
        within_s: most seconds to wait.
        pause_s: seconds between questions.

    Returns:
        The seconds it took.

    Raises:
        AssertionError: if it took too long.
    """
    began, pause = time.monotonic(), threading.Event()
    while not holds():
        assert time.monotonic() - began < within_s, f"{complaint} within {within_s:g} s"
        pause.wait(pause_s)
    return time.monotonic() - began


def until_up(
    process: subprocess.Popen[bytes], is_up: Callable[[], object], log: Path | None = None, *, within_s: float = 60.0
) -> None:
    """Wait for a process that has just been started.

    Args:
        process: it.
        is_up: whether it does its work by now.
        log: what it writes, for whoever finds out why it did not start.
        within_s: most seconds to wait.

    Raises:
        AssertionError: if it ended, or took too long.
    """

    class Said:
        def __str__(self) -> str:
            return f"{process.args!r} is not up: {log.read_text(errors='replace') if log else ''}"

    def is_up_or_gone() -> bool:
        assert process.poll() is None, Said()
        return bool(is_up())

    until(is_up_or_gone, Said(), within_s=within_s)


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a GET of a page on this machine is answered with 200."""
    asked = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with _direct.open(asked, timeout=_ANSWER_S) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
