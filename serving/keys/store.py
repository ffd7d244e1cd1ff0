"""Where keys are kept, behind a small seam."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from core.errors import KeyEnded, UnknownKey
from serving.keys.key import Key


class KeyStore(Protocol):
    """Keeps every key there ever was: an ended key stays, so that access once closed does not open again.

    Every method raises DependencyDown if the store does not answer. Each change is atomic.
    """

    def read(self) -> list[Key]:
        """All keys, oldest first; none if nothing was ever stored."""
        ...

    def add(self, key: Key) -> None:
        """Keep one more."""
        ...

    def succeed(self, key_id: str, successor: Key, ends_at: datetime) -> Key:
        """Keep `successor`, and let the key end at `ends_at`, or when it would have ended anyway.

        Returns:
            The old key as it is now.

        Raises:
            UnknownKey: if there is no such key.
            KeyEnded: if it is no longer live at the successor's `created_at`, or has a successor already.
        """
        ...

    def revoke(self, key_id: str, at: datetime) -> Key:
        """End a key at once; the first time counts. Must be idempotent.

        Raises:
            UnknownKey: if there is no such key.
        """
        ...

    def close(self) -> None:
        """Let go of all connections; must be idempotent."""
        ...


class MemoryKeyStore:
    """Keys in memory, for tests.

    Example:
        >>> MemoryKeyStore().read()
        []
    """

    def __init__(self) -> None:
        self._kept: dict[str, Key] = {}
        self._lock = threading.Lock()

    def read(self) -> list[Key]:
        """All keys, oldest first."""
        with self._lock:
            return list(self._kept.values())

    def add(self, key: Key) -> None:
        """Keep one more."""
        with self._lock:
            self._kept[key.id] = key

    def succeed(self, key_id: str, successor: Key, ends_at: datetime) -> Key:
        """Keep the successor and bound the life of the old key."""
        with self._lock:
            old = self._find(key_id)
            require_replaceable(old, successor.created_at)
            self._kept[key_id] = replace(old, replaced_by=successor.id, expires_at=earlier(old.expires_at, ends_at))
            self._kept[successor.id] = successor
            return self._kept[key_id]

    def revoke(self, key_id: str, at: datetime) -> Key:
        """End a key."""
        with self._lock:
            old = self._find(key_id)
            if old.revoked_at is None:
                self._kept[key_id] = replace(old, revoked_at=at)
            return self._kept[key_id]

    def close(self) -> None:
        """Nothing to let go of."""

    def _find(self, key_id: str) -> Key:
        if key_id not in self._kept:
            raise UnknownKey(key_id)
        return self._kept[key_id]


def require_replaceable(key: Key, now: datetime) -> None:
    """Raise KeyEnded unless the key is live and has no successor."""
    if key.replaced_by is not None:
        raise KeyEnded(key.id, f"was replaced by {key.replaced_by}", f"Rotate {key.replaced_by} instead.")
    state = key.state(now)
    if state != "live":
        raise KeyEnded(key.id, f"is {state}", "Create a new key.")


def earlier(one: datetime | None, other: datetime) -> datetime:
    """The earlier of two ends, where None is never."""
    return other if one is None else min(one, other)
