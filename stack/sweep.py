"""Finding and ending processes that a stack left behind."""

from __future__ import annotations

import contextlib

import psutil

from core.settings import Settings
from stack.environment import PROCESS_MARKER, STACK_MARKER, stack_marker

_PATIENCE_S = 5.0
_ROUNDS = 3


def members(settings: Settings) -> list[psutil.Process]:
    """Every process that descends from the stack of this home folder, whoever is its parent now.

    They are known by a variable in their environment; Redis, which writes its title over its environment, by
    its folder. The caller and its ancestors are left out.
    """
    marker, redis_dir = stack_marker(settings), str(settings.home.absolute() / "redis")
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared
        and (_variable(process, STACK_MARKER) == marker or _redis_folder(process) == redis_dir)
    ]


def end_members(settings: Settings) -> list[str]:
    """End them: asked first, killed if they do not go.

    Returns:
        What was ended, as ``pid name``.
    """
    ended: list[str] = []
    for _ in range(_ROUNDS):  # a process may start another while it is being ended
        found = members(settings)
        if not found:
            break
        ended += [f"{process.pid} {_name(process)}" for process in found]
        for process in found:
            _signal(process, kill=False)
        _, alive = psutil.wait_procs(found, timeout=_PATIENCE_S)
        for process in alive:
            _signal(process, kill=True)
        psutil.wait_procs(alive, timeout=_PATIENCE_S)
    return ended


def kill_members(settings: Settings, *, process: str) -> None:
    """Kill what is left of one process of the stack; its children know its name from their environment."""
    left = [member for member in members(settings) if _variable(member, PROCESS_MARKER) == process]
    for member in left:
        _signal(member, kill=True)
    psutil.wait_procs(left, timeout=_PATIENCE_S)


def _variable(process: psutil.Process, name: str) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        value: str | None = process.environ().get(name)
    except (psutil.Error, OSError):
        return None
    return value


def _redis_folder(process: psutil.Process) -> str | None:
    try:
        folder: str | None = process.cwd() if process.name() == "redis-server" else None
    except (psutil.Error, OSError):
        return None
    return folder


def _name(process: psutil.Process) -> str:
    try:
        name: str = process.name()
        return name
    except psutil.Error:
        return "gone"


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with contextlib.suppress(psutil.Error):
        if kill:
            process.kill()
        else:
            process.terminate()
