"""What kills a deployer immediately before or immediately after its n-th write to any of its stations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from serving.deployment import Stations

_WRITES = ("register", "unregister", "prefer", "publish", "record", "deploy", "set_alias")
_LOOK = "desired"
LOOKS = "looks"
"""What `told` hears at the beginning of each of the deployer's rounds."""


class Fate:
    """Decides at which write the process ends. Until it is sealed, at none.

    Args:
        end: ends the process; does not return.
        told: hears what the process is about to do: `LOOKS`, or the name of a write.
    """

    def __init__(self, end: Callable[[], None], told: Callable[[str], None] = lambda _: None) -> None:
        self._end = end
        self._told = told
        self._left = 0
        self._is_before = False

    @property
    def is_pending(self) -> bool:
        """Whether the write has not come yet."""
        return self._left > 0

    def seal(self, n: int, *, is_before: bool) -> None:
        """From now on, the n-th write is the last one: it is not made any more, or it is just made."""
        self._is_before = is_before
        self._left = n

    def look(self) -> None:
        """Take note of another round."""
        self._told(LOOKS)

    def write(self, name: str, action: Callable[[], Any]) -> Any:
        """Make a write, if the process lives to make it."""
        self._told(name)
        self._left -= 1
        is_last = self._left == 0
        if is_last and self._is_before:
            self._end()
        result = action()
        if is_last:
            self._end()
        return result


class _Doomed:
    """Stands before a station."""

    def __init__(self, inner: Any, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == _LOOK:
            self._fate.look()
        if name not in _WRITES:
            return found
        return lambda *arguments, **options: self._fate.write(name, lambda: found(*arguments, **options))


def doomed(stations: Stations, fate: Fate) -> Stations:
    """The same stations, at which the fate is met."""
    names = ("registry", "host", "routes", "ledger")
    return replace(stations, **{name: _Doomed(getattr(stations, name), fate) for name in names})  # type: ignore[arg-type]
