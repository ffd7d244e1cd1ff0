"""An API key: what may be done with it, and how a secret is told from a forged one."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Scope = Literal["predict", "feedback", "events", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
State = Literal["live", "expired", "revoked"]
LONGEST_NAME = 64
MOST_PER_S = 1_000_000
MOST_PER_DAY = 10**12
_FORM = re.compile(rb"eg_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Key:
    """One API key as it is kept: never its secret.

    Args:
        id: twelve hexadecimal digits, the part of the key that may be shown.
        name: who or what it was issued for.
        digest: SHA-256 of the whole key, hexadecimal.
        scopes: what may be called with it.
        use_cases: the use cases it is limited to; empty: all.
        rate_per_s: most calls in a second; None: no limit.
        quota_per_day: most calls in a day (UTC); None: no limit.
        created_at: when it was issued.
        expires_at: when it ends by itself; None: never.
        revoked_at: when it was ended; None if it was not.
        replaced_by: id of its successor, if it was rotated.
    """

    id: str
    name: str
    digest: str
    scopes: frozenset[Scope]
    use_cases: frozenset[str]
    rate_per_s: int | None
    quota_per_day: int | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str | None = None

    def state(self, now: datetime) -> State:
        """Whether it may be used."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"

    @property
    def may(self) -> str:
        """What it may be used for, for people: ``predict, feedback of taxi_tip``."""
        scopes = ", ".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{scopes} of {', '.join(sorted(self.use_cases))}" if self.use_cases else scopes


def new_secret() -> tuple[str, str]:
    """A fresh key as the client gets it, ``eg_<id>_<secret>``, and its id.

    The secret is 256 bits from the operating system, 43 URL-safe characters.
    """
    key_id = secrets.token_hex(6)
    return f"eg_{key_id}_{secrets.token_urlsafe(32)}", key_id


def digest_of(presented: bytes) -> str:
    """What is kept of a key: SHA-256 of all of it, so that the id is its salt; hexadecimal.

    One round is enough: nobody can try 2^256 secrets however fast the hash is. A slow hash is for secrets that people
    make up. Source: NIST SP 800-63B, section 5.1.2.2: look-up secrets of at least 112 bits are hashed with an approved
    one-way function, shorter ones with a key derivation function.
    """
    return hashlib.sha256(presented).hexdigest()


def id_in(presented: bytes) -> str | None:
    """The id that a presented key carries; None if it does not have the form of a key.

    Example:
        >>> id_in(b"eg_0123456789ab_" + b"x" * 43), id_in(b"secret")
        ('0123456789ab', None)
    """
    match = _FORM.fullmatch(presented)
    return match[1].decode() if match else None
