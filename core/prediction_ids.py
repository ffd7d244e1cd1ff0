"""Prediction ids that prove themselves.

An id is ``<12 hex: ms since epoch><10 hex: random><4 hex: n><12 hex: MAC><4 hex: i>``: the i-th of n predictions that
were made together. The MAC is HMAC-SHA256 over the use case's name and the first 26 characters, cut to 48 bits, so the
gateway can tell an id it issued from one it did not, without looking anything up, however many predictions were made.
One MAC serves all predictions of a call. Ids of 34 characters, without n and i, were issued before and are known still.

Source: HMAC as in RFC 2104; 48 bits leave a forger one chance in 2.8e14 per try.
"""

from __future__ import annotations

import hmac
import random

MOST = 0xFFFF
"""Predictions that one series of ids can name."""
ID_LENGTH = 42
_BASE_LENGTH = 38
_BODY_LENGTH = 26
_EARLIER_LENGTH, _EARLIER_BODY_LENGTH = 34, 22
_INDICES = [f"{i:04x}" for i in range(512)]


def _mac(secret: bytes, use_case: str, body: str) -> str:
    return hmac.digest(secret, f"{use_case}\x00{body}".encode(), "sha256")[:6].hex()


def issue_base(secret: bytes, use_case: str, now_ms: int, n: int) -> str:
    """What the ids of `n` predictions (1 to 65535) of `use_case`, made at `now_ms` (ms since epoch), begin with."""
    # the random part keeps ids apart and is no secret: what cannot be guessed is the MAC
    body = f"{now_ms & 0xFFFFFFFFFFFF:012x}{random.getrandbits(40):010x}{n:04x}"
    return body + _mac(secret, use_case, body)


def ids_of(base: str, n: int) -> list[str]:
    """The n ids that begin with a base.

    Example:
        >>> ids_of("b", 2)
        ['b0000', 'b0001']
    """
    if n <= len(_INDICES):
        return [base + index for index in _INDICES[:n]]
    return [f"{base}{i:04x}" for i in range(n)]


def issue_ids(secret: bytes, use_case: str, now_ms: int, n: int) -> list[str]:
    """Make `n` distinct ids for predictions of `use_case` made at `now_ms` (ms since epoch)."""
    return ids_of(issue_base(secret, use_case, now_ms, n), n)


def is_issued(secret: bytes, use_case: str, prediction_id: str) -> bool:
    """Whether `prediction_id` was issued for `use_case` under this secret."""
    if not prediction_id.isascii():
        return False
    if len(prediction_id) == _EARLIER_LENGTH:
        body, mac = prediction_id[:_EARLIER_BODY_LENGTH], prediction_id[_EARLIER_BODY_LENGTH:]
        return hmac.compare_digest(mac, _mac(secret, use_case, body))
    if len(prediction_id) != ID_LENGTH:
        return False
    body, mac = prediction_id[:_BODY_LENGTH], prediction_id[_BODY_LENGTH:_BASE_LENGTH]
    if not hmac.compare_digest(mac, _mac(secret, use_case, body)):
        return False
    index = prediction_id[_BASE_LENGTH:]
    try:
        return index == f"{int(index, 16):04x}" and int(index, 16) < int(body[-4:], 16)
    except ValueError:
        return False
