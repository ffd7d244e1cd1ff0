"""Writing what clients send to the streams, refusing when nobody keeps up with reading them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import Overloaded
from features.streams import Keys, position_of
from serving.gateway.store import Store

_LOOK_EVERY_S = 0.1


class Intake:
    """Appends to the log and labels streams, with back-pressure.

    Args:
        store: holds the streams.
        keys: their names.
        max_entries: entries a stream may hold before writers are refused.
        seconds: a clock that only goes forward.
    """

    def __init__(
        self, store: Store, keys: Keys, max_entries: int, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._keys = keys
        self._max_entries = max_entries
        self._seconds = seconds
        self._looks: dict[str, tuple[float, int]] = {}

    async def events(self, fields: Mapping[Any, Any]) -> int:
        """Append one entry to the log and return its position.

        Raises:
            Overloaded: if the log holds too many entries that were not applied yet.
            DependencyDown: if the store does not answer; the entry may then have been written or not.
        """
        return position_of(await self._append(self._keys.log, fields))

    async def labels(self, fields: Mapping[Any, Any]) -> None:
        """Append one entry to the labels; raises as `events` does."""
        await self._append(self._keys.labels, fields)

    async def _append(self, stream: str, fields: Mapping[Any, Any]) -> bytes:
        looked_at, length = self._looks.get(stream, (float("-inf"), 0))
        if self._seconds() - looked_at >= _LOOK_EVERY_S:
            length = await self._store.length(stream)
            self._looks[stream] = (self._seconds(), length)
        if length > self._max_entries:
            raise Overloaded(
                f"The stream {stream} holds {length} entries, more than {self._max_entries}: its reader is behind."
            )
        return await self._store.append(stream, fields)
