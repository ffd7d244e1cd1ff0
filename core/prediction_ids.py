"""Prediction ids that prove themselves.

An id is ``<12 hex: ms since epoch><10 hex: random><12 hex: MAC>``. The MAC is HMAC-SHA256 over the
use case's name and the first 22 characters, cut to 48 bits, so the gateway can tell an id it issued
from one it did not, without looking anything up, however many predictions were made.

Source: HMAC as in RFC 2104; 48 bits leave a forger one chance in 2.8e14 per try.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

ID_LENGTH = 34
_BODY_LENGTH = 22


def _mac(secret: bytes, use_case: str, body: str) -> str:
    return hmac.new(secret, f"{use_case}\x00{body}".encode(), hashlib.sha256).hexdigest()[:12]


def issue_ids(secret: bytes, use_case: str, now_ms: int, n: int) -> list[str]:
    """Make `n` distinct ids for predictions of `use_case` made at `now_ms` (ms since epoch)."""
    prefix = f"{now_ms & 0xFFFFFFFFFFFF:012x}"
    start = secrets.randbits(40)
    bodies = [f"{prefix}{(start + i) & 0xFFFFFFFFFF:010x}" for i in range(n)]
    return [body + _mac(secret, use_case, body) for body in bodies]


def is_issued(secret: bytes, use_case: str, prediction_id: str) -> bool:
    """Whether `prediction_id` was issued for `use_case` under this secret."""
    if len(prediction_id) != ID_LENGTH or not prediction_id.isascii():
        return False
    body, mac = prediction_id[:_BODY_LENGTH], prediction_id[_BODY_LENGTH:]
    return hmac.compare_digest(mac, _mac(secret, use_case, body))
