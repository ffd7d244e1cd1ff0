"""Writing what clients send to the streams, refusing when nobody keeps up with reading them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.errors import DependencyDown
from features.streams import Keys, Place, encode_events, fan_out, position_of
from serving.gateway.problems import StreamFull
from serving.gateway.store import Entries, Store

_LOOK_EVERY_S = 0.1


class Intake:
    """Appends to the logs of the partitions and to the labels, with back-pressure.

    Args:
        store: holds the streams.
        keys: their names.
        partitions: how many the event log has.
        max_entries: entries a stream may hold before writers are refused.
        seconds: a clock that only goes forward.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        *,
        partitions: int,
        max_entries: int,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keys = keys
        self._partitions = partitions
        self._max_entries = max_entries
        self._seconds = seconds
        self._looks: dict[str, tuple[float, int]] = {}
        self._compared_at = float("-inf")

    async def events(
        self, source: str, groups: Sequence[tuple[str, ...]], events: Sequence[Mapping[str, Any]], known_at_us: int
    ) -> dict[int, int]:
        """Append events to every partition that one of their key groups falls into.

        Args:
            source: the event source.
            groups: the source's key groups.
            events: each with ``id``, ``at_us`` and the source's fields.
            known_at_us: now, in microseconds since 1970 UTC.

        Returns:
            The position in the log of each partition that was written to.

        Raises:
            StreamFull: if one of the partitions holds too many entries that are not in the offline log yet; none is
                written to.
            DependencyDown: if the store does not answer, the events may then have been written or not; or if the log
                is split into another number of partitions, nothing was written.
        """
        await self._compare_partitions()
        placed = list(fan_out(groups, events, self._partitions).items())
        entries = [(self._log(place), encode_events(source, place, part, known_at_us)) for place, part in placed]
        positions: dict[int, int] = {}
        for (place, _), entry_id in zip(placed, await self._append(entries), strict=True):
            positions[place.partition] = max(position_of(entry_id), positions.get(place.partition, 0))
        return positions

    async def labels(self, fields: Mapping[Any, Any]) -> None:
        """Append one entry to the labels; raises as `events` does."""
        await self._append([(self._keys.labels, fields)])

    def _log(self, place: Place) -> str:
        return self._keys.log(place.partition)

    async def _append(self, entries: Entries) -> list[bytes]:
        streams = list(dict.fromkeys(stream for stream, _ in entries))
        await self._look(streams)
        for stream in streams:
            length = self._looks[stream][1]
            if length > self._max_entries:
                raise StreamFull(
                    f"The stream {stream} holds {length} entries, more than {self._max_entries}: its reader is behind."
                )
        return await self._store.append(entries)

    async def _compare_partitions(self) -> None:
        """Refuse to write where nobody would look for it; compared anew every moment."""
        now = self._seconds()
        if now - self._compared_at < _LOOK_EVERY_S:
            return
        found = (await self._store.read_hash(self._keys.partitions)).get("count")
        if found is not None and int(found) != self._partitions:
            now_split = f"split into {int(found)} partitions" if int(found) > 0 else "being split anew"
            raise DependencyDown(
                "the event log",
                f"it is {now_split} and this gateway was started for {self._partitions}; when `evergreen features "
                "rebuild` is done, restart the gateway with the same EVERGREEN_STREAM__PARTITIONS",
            )
        self._compared_at = now

    async def _look(self, streams: Sequence[str]) -> None:
        """Note how long the streams are, unless that was looked at a moment ago."""
        now, never = self._seconds(), (float("-inf"), 0)
        due = [stream for stream in streams if now - self._looks.get(stream, never)[0] >= _LOOK_EVERY_S]
        if due:
            lengths, looked_at = await self._store.lengths(due), self._seconds()
            self._looks |= {stream: (looked_at, length) for stream, length in zip(due, lengths, strict=True)}
