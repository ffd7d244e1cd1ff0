"""Issuing, rotating and revoking keys: what the command line and the admin calls have in common."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from core.clock import Clock
from core.errors import InvalidField, UnknownKey
from serving.keys.audit import AdminAudit, Caller
from serving.keys.key import LONGEST_NAME, MOST_PER_DAY, MOST_PER_S, SCOPES, Key, Scope, digest_of, new_secret
from serving.keys.store import KeyStore, earlier, require_replaceable

OVERLAP = timedelta(hours=24)
_LONGEST_OVERLAP = timedelta(days=366)


@dataclass(frozen=True)
class Wish:
    """A key that somebody asks for.

    Args:
        name: who or what it is for.
        scopes: what shall be called with it.
        use_cases: what it is limited to; empty: all.
        rate_per_s: most calls in a second; None: no limit.
        quota_per_day: most calls in a day (UTC); None: no limit.
        expires_at: when it ends by itself; None: never.
    """

    name: str
    scopes: Collection[str]
    use_cases: Collection[str] = ()
    rate_per_s: int | None = None
    quota_per_day: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Issued:
    """A fresh key with its secret, which nobody can show again."""

    key: Key
    secret: str


class Issuer:
    """Changes keys, each change recorded before it is made.

    Every method raises DependencyDown if the database does not answer.

    Args:
        store: where keys are kept.
        audit: where it is recorded.
        declared: the use cases there are.
        clock: tells now.
    """

    def __init__(self, store: KeyStore, audit: AdminAudit, declared: Collection[str], clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._declared = declared
        self._clock = clock

    def keys(self, by: Caller) -> list[Key]:
        """All keys, oldest first."""
        self._audit.allow("list_keys", by, "listed the keys", {})
        return self._store.read()

    def create(self, wish: Wish, by: Caller) -> Issued:
        """Issue a key.

        Raises:
            InvalidField: if there can be no such key.
        """
        now = self._clock.now()
        require_sound(wish, self._declared, now)
        secret, key_id = new_secret()
        key = Key(
            key_id,
            wish.name,
            digest_of(secret.encode()),
            cast(frozenset[Scope], frozenset(wish.scopes)),
            frozenset(wish.use_cases),
            wish.rate_per_s,
            wish.quota_per_day,
            created_at=now,
            expires_at=wish.expires_at,
        )
        self._audit.allow("create_key", by, f"created the key {key.id} for {key.name}: {key.may}", described(key, now))
        self._store.add(key)
        return Issued(key, secret)

    def rotate(self, key_id: str, overlap: timedelta, by: Caller) -> Issued:
        """Issue a key that takes another's place, with the same rights and limits.

        Args:
            key_id: the other's.
            overlap: how long the other goes on to count.
            by: who asks.

        Raises:
            UnknownKey: if there is no such key.
            KeyEnded: if it is no longer live, or was rotated already.
            InvalidField: if the overlap is negative or over a year.
        """
        if not timedelta(0) <= overlap <= _LONGEST_OVERLAP:
            raise InvalidField(
                f"The overlap is {overlap}.", field="overlap_s", remedy=f"Send 0 to {_LONGEST_OVERLAP.days} days."
            )
        now = self._clock.now()
        old = self._find(key_id)
        require_replaceable(old, now)
        secret, new_id = new_secret()
        successor = replace(old, id=new_id, digest=digest_of(secret.encode()), created_at=now)
        ends_at = earlier(old.expires_at, now + overlap)
        self._audit.allow(
            "rotate_key",
            by,
            f"rotated the key {old.id} of {old.name} to {new_id}; {old.id} ends at {ends_at:%Y-%m-%d %H:%M:%S} UTC",
            {"key": old.id, "successor": new_id, "ends_at": ends_at.isoformat()},
        )
        self._store.succeed(old.id, successor, ends_at)
        return Issued(successor, secret)

    def revoke(self, key_id: str, by: Caller) -> Key:
        """End a key at once; again has no effect.

        Raises:
            UnknownKey: if there is no such key.
        """
        old = self._find(key_id)
        self._audit.allow("revoke_key", by, f"revoked the key {old.id} of {old.name}", {"key": old.id})
        return self._store.revoke(old.id, self._clock.now())

    def _find(self, key_id: str) -> Key:
        self._audit.prepare()
        found = next((key for key in self._store.read() if key.id == key_id), None)
        if found is None:
            raise UnknownKey(key_id)
        return found


def described(key: Key, now: datetime) -> dict[str, object]:
    """A key for people and machines: everything but its digest."""
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(now),
        "scopes": [scope for scope in SCOPES if scope in key.scopes],
        "use_cases": sorted(key.use_cases),
        "rate_per_s": key.rate_per_s,
        "quota_per_day": key.quota_per_day,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
        "replaced_by": key.replaced_by,
    }


def require_sound(wish: Wish, declared: Collection[str], now: datetime) -> None:
    """Raise InvalidField unless there can be such a key."""
    if not 0 < len(wish.name) <= LONGEST_NAME or not wish.name.isprintable() or wish.name != wish.name.strip():
        _refuse("name", wish.name[:60], f"1 to {LONGEST_NAME} printable characters, without space at its ends")
    unknown = [scope for scope in wish.scopes if scope not in SCOPES]
    if unknown or not wish.scopes:
        _refuse("scopes", unknown[0][:60] if unknown else "nothing", f"at least one of {', '.join(SCOPES)}")
    missing = [name for name in wish.use_cases if name not in declared]
    if missing:
        _refuse("use_cases", missing[0][:60], f"some of {', '.join(sorted(declared)) or 'none: there is no use case'}")
    if "admin" in wish.scopes and wish.use_cases:
        _refuse("use_cases", ", ".join(sorted(wish.use_cases)), "none with the scope admin, which concerns all of them")
    for name, value, most in (
        ("rate_per_s", wish.rate_per_s, MOST_PER_S),
        ("quota_per_day", wish.quota_per_day, MOST_PER_DAY),
    ):
        if value is not None and not 1 <= value <= most:
            _refuse(name, value if abs(value) < 10**18 else "a huge number", f"a whole number of 1 to {most}")
    if wish.expires_at is not None and wish.expires_at <= now:
        _refuse("expires_at", wish.expires_at.isoformat(), "a moment in the future")


def _refuse(field: str, value: object, allowed: str) -> None:
    raise InvalidField(f"It is {value!r}.", field=field, remedy=f"Send {allowed}.")
