"""Who is logged in: a signed cookie names a live key, and a token proves that a form is ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from serving.keys.key import Key

COOKIE = "evergreen_console"
LOGIN_COOKIE = "evergreen_login"
_LONGEST_S = 8 * 3600
_LONGEST_COOKIE = 1000


@dataclass(frozen=True)
class Claim:
    """What a cookie says.

    Args:
        key_id: of the key that was presented.
        key_mark: of that key, so that another one under the same id does not count.
        began_s: when it was presented, in seconds since 1970 UTC.
        ends_s: when the session is over.
        nonce: what makes it different from all others.
    """

    key_id: str
    key_mark: str
    began_s: int
    ends_s: int
    nonce: str


class Sessions:
    """Makes and reads cookies. Nothing is kept: who has the secret, each gateway process, can check them.

    A session ends after some time without a click, after 8 hours in any case, and as soon as its key no longer counts.

    Args:
        secret: signs; a key for this use alone is derived from it.
        lasts_s: seconds without a click after which a session ends.
        seconds: tells now, in seconds since 1970 UTC.
    """

    def __init__(self, secret: bytes, lasts_s: int, seconds: Callable[[], float] = time.time) -> None:
        self._secret = hmac.digest(secret, b"evergreen console sessions", "sha256")
        self._lasts_s = lasts_s
        self._seconds = seconds

    def open(self, key: Key) -> str:
        """The cookie of a fresh session."""
        now = int(self._seconds())
        return self._cookie(Claim(key.id, self.mark(key), now, now + self._lasts_s, secrets.token_urlsafe(12)))

    def read(self, cookie: str | None) -> Claim | None:
        """What a cookie says; None if it is not ours, or over."""
        if not cookie or len(cookie) > _LONGEST_COOKIE:
            return None
        packed, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", packed).encode()):
            return None
        claim = Claim(*orjson.loads(base64.urlsafe_b64decode(packed)))
        return claim if self._seconds() < claim.ends_s else None

    def renewed(self, claim: Claim) -> str | None:
        """The cookie that prolongs a session; None if that is not due, or not allowed."""
        ends_s = min(int(self._seconds()) + self._lasts_s, claim.began_s + _LONGEST_S)
        if ends_s - claim.ends_s < self._lasts_s // 10:
            return None
        return self._cookie(Claim(claim.key_id, claim.key_mark, claim.began_s, ends_s, claim.nonce))

    def mark(self, key: Key) -> str:
        """A text that is the same for the same key, and tells nothing of it."""
        return self._sign("key", key.digest)[:16]

    def token(self, claim: Claim) -> str:
        """What the forms of a session carry."""
        return self._sign("form", claim.nonce)

    def is_token(self, claim: Claim, token: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(token.encode(), self.token(claim).encode())

    def login_token(self, nonce: str) -> str:
        """What the log-in form carries, for the cookie of that text."""
        return self._sign("login", nonce)

    def is_login_token(self, nonce: str | None, token: str) -> bool:
        """Whether a log-in form came from our page in this browser."""
        return bool(nonce) and hmac.compare_digest(token.encode(), self.login_token(nonce or "").encode())

    def _cookie(self, claim: Claim) -> str:
        content = orjson.dumps([claim.key_id, claim.key_mark, claim.began_s, claim.ends_s, claim.nonce])
        packed = base64.urlsafe_b64encode(content).decode()
        return f"{packed}.{self._sign('session', packed)}"

    def _sign(self, what: str, text: str) -> str:
        found = hmac.new(self._secret, f"{what}\x00{text}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(found).decode().rstrip("=")
