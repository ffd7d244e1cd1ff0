"""Who may call what, and how often: asked once per request, without input or output."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from core.errors import DependencyDown, Forbidden, Unauthorized
from serving.gateway.meter import Meter
from serving.keys.key import SCOPES, Key, Scope, digest_of, id_in

SETTING = "EVERGREEN_GATEWAY__API_KEY"
_FIRST_KEY = "Create a key with: evergreen keys create NAME --scopes admin"


class Guard:
    """A key as the hot path sees it."""

    __slots__ = ("ends_s", "key", "meter", "problem")

    def __init__(self, key: Key, meter: Meter) -> None:
        self.key = key
        self.meter = meter
        self.ends_s = key.expires_at.timestamp() if key.expires_at else float("inf")
        self.problem = f"was revoked at {_moment(key.revoked_at)}" if key.revoked_at else None


@dataclass
class _Table:
    """What is known of the keys; replaced as a whole whenever they change."""

    keys: tuple[Key, ...]
    guards: dict[str, Guard]
    presented: dict[bytes, Guard] = field(default_factory=dict)


class Access:
    """Decides over each request by the API key it presents.

    Keys come by `adopt`, from any thread; requests are checked in the event loop. Until keys were adopted for the
    first time it is not known whether there are any, so that only the key of the settings is accepted.

    Without any key, open access is granted if the gateway is reached from this machine alone, except to what needs
    the scope admin. One key, live or not, closes it: revoking the last one opens nothing.

    Args:
        setting: the key given by ``EVERGREEN_GATEWAY__API_KEY``, which has every scope and no limit; empty: none.
        is_loopback: whether the gateway listens on the loopback interface alone.
        seconds: tells now, in seconds since 1970 UTC.

    Example:
        >>> Access(setting="s3cret", is_loopback=True).check(b"s3cret", "predict", "taxi_tip").name
        'EVERGREEN_GATEWAY__API_KEY'
    """

    def __init__(self, *, setting: str, is_loopback: bool, seconds: Callable[[], float] = time.time) -> None:
        self._setting = setting.encode()
        self._own = _own_key(setting)
        self.is_loopback = is_loopback
        self._seconds = seconds
        self._adopted_s: float | None = None
        self._table = _Table((), {})

    def check(
        self, header: bytes | None, scope: Scope | None, use_case: str | frozenset[str] | None, cost: int = 1
    ) -> Key | None:
        """Return if the call may be made, and count it.

        Args:
            header: the value of X-API-Key as it came; None if there is none.
            scope: what the call needs; None: any live key will do.
            use_case: the one it concerns, or all that it concerns; None: no particular one.
            cost: how many calls it counts as; 0: none.

        Returns:
            The key it was made with; None if access is open.

        Raises:
            Unauthorized: if the key is missing, wrong, revoked or expired.
            Forbidden: if it lacks the scope or the use case, or if admin calls are made though no key exists.
            RateLimited: if it made too many calls in the last second.
            QuotaExceeded: if it made too many calls today.
            DependencyDown: if it is not known yet which keys there are.
        """
        table = self._table
        guard = table.presented.get(header) if header is not None else None
        if guard is None:
            guard = self._find(table, header)
            if guard is None:
                _require_open(scope)
                return None
        key, now_s = guard.key, self._seconds()
        if guard.problem is not None or now_s >= guard.ends_s:
            raise Unauthorized(f"The key {key.id} {guard.problem or f'expired at {_moment(key.expires_at)}'}.")
        if scope is not None and scope not in key.scopes:
            raise _forbidden(key, scope)
        if use_case is not None and key.use_cases and not _covers(key.use_cases, use_case):
            names = use_case if isinstance(use_case, str) else ", ".join(sorted(use_case))
            raise _forbidden(key, f"{scope or 'to read'} of {names}")
        if cost:
            guard.meter.take(cost, now_s)
        return key

    def still_live(self, key_id: str) -> Key:
        """A key that was presented before, if it still counts; costs nothing of its limits.

        Raises:
            Unauthorized: if it was revoked, has expired, or is not known.
        """
        guard = self._table.guards.get(key_id)
        if key_id == self._own.id and self._setting:
            return self._own
        if guard is None or guard.problem is not None or self._seconds() >= guard.ends_s:
            raise Unauthorized(f"The key {key_id[:12]} no longer counts.")
        return guard.key

    def adopt(self, keys: Iterable[Key]) -> None:
        """Go by these keys from now on; what was counted for a key stays with it. Safe to call from a thread."""
        found = tuple(keys)
        if self._adopted_s is None or found != self._table.keys:
            before = self._table.guards
            guards = {}
            for key in found:
                meter = before[key.id].meter if key.id in before else Meter(key)
                meter.key = key
                guards[key.id] = Guard(key, meter)
            self._table = _Table(found, guards)
        self._adopted_s = self._seconds()

    def age_s(self) -> float:
        """Seconds since the keys were last read; infinite before the first time."""
        return float("inf") if self._adopted_s is None else self._seconds() - self._adopted_s

    def require_known(self) -> None:
        """Raise DependencyDown until the keys were read for the first time."""
        if self._adopted_s is None:
            raise DependencyDown("The ledger's database", "the API keys could not be read yet")

    def is_closed(self) -> bool:
        """Whether calls need a key."""
        return bool(self._setting or self._table.keys or self._adopted_s is None or not self.is_loopback)

    def meters(self) -> list[Meter]:
        """The counters of all keys."""
        return [guard.meter for guard in self._table.guards.values()]

    def _find(self, table: _Table, header: bytes | None) -> Guard | None:
        """The key behind a header that is seen for the first time; None if access is open.

        A secret is compared in constant time here, by its digest. Looking a known one up afterwards is not: the
        process's own random hash of the bytes stands between a guess and a comparison.
        """
        if header is not None:
            guard = None
            if self._setting and hmac.compare_digest(header, self._setting):
                guard = Guard(self._own, Meter(self._own))
            elif (key_id := id_in(header)) is not None and (known := table.guards.get(key_id)) is not None:
                guard = known if hmac.compare_digest(digest_of(header), known.key.digest) else None
            if guard is not None:
                table.presented[header] = guard  # at most one entry per key: no other bytes get this far
                return guard
        if header is not None or (self.is_loopback and not self._setting):
            self.require_known()
        if self.is_closed():
            raise Unauthorized("The API key is missing." if header is None else "The API key is wrong.")
        return None


def _require_open(scope: Scope | None) -> None:
    if scope == "admin":
        raise Forbidden("There is no API key yet, and admin calls are never open.", _FIRST_KEY)


def _own_key(setting: str) -> Key:
    everything = frozenset(SCOPES)
    digest, ever = digest_of(setting.encode()), datetime.fromtimestamp(0, tz=UTC)
    return Key("setting", SETTING, digest, everything, frozenset(), None, None, created_at=ever)


def _covers(allowed: frozenset[str], wanted: str | frozenset[str]) -> bool:
    return wanted in allowed if isinstance(wanted, str) else wanted <= allowed


def _forbidden(key: Key, needed: str) -> Forbidden:
    detail = f"The key {key.id} ({key.name}) may {key.may}; this call needs {needed}."
    return Forbidden(detail, "Use a key that may, or ask for one.")


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"
