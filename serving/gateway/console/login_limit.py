"""Slowing down whoever tries keys: a limit of log-ins that failed, by address and on the whole."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from serving.gateway.problems import TooManyLogIns

_WINDOW_S = 60
_EACH, _ALL = 10, 300
_MOST_ADDRESSES = 1024


class LoginLimit:
    """Allows 10 failed log-ins a minute from one address and 300 from all, in each gateway process.

    A key is 256 bits long, so this is for the key of the settings, which people may make up themselves.

    Args:
        seconds: tells now, on a clock that never goes back.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def require_room(self, address: str) -> None:
        """Return if a log-in may be tried.

        Raises:
            TooManyLogIns: if too many have failed.
        """
        for name, most in ((address, _EACH), ("", _ALL)):
            lately = self._lately(name)
            if len(lately) >= most:
                raise TooManyLogIns(lately[0] + _WINDOW_S - self._seconds())

    def failed(self, address: str) -> None:
        """Count one that failed."""
        for name in (address, ""):
            self._failed[name] = [*self._lately(name), self._seconds()]
            self._failed.move_to_end(name)
        while len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)

    def _lately(self, name: str) -> list[float]:
        since = self._seconds() - _WINDOW_S
        return [moment for moment in self._failed.get(name, ()) if moment > since]
