"""Calls for a retrain that travel through somebody else's hands: signed, so that none can be made up or changed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import EvergreenError

SIGNATURE = "signature"
_FIELDS = ("use_case", "as_of", "reason", "decision_id")
_SCHEME = "v1="
_LONGEST = 4000


class DispatchRefused(EvergreenError):
    """A dispatch is not one that Evergreen sent.

    Args:
        why: as a clause.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"The dispatch is refused: {why}. Nothing is retrained. Who sent it?")


@dataclass(frozen=True)
class Dispatch:
    """What is to be retrained, and which decision called for it.

    Args:
        use_case: its name.
        as_of: ISO 8601 moment whose knowledge to train on.
        reason: why, for people.
        decision_id: the ledger's id of the decision; done once, however often it comes.

    Example:
        >>> sent = Dispatch("taxi_tip", "2019-02-05T00:00:00+00:00", "drift", "7").signed(b"a secret of many bytes")
        >>> read_dispatch(sent, b"a secret of many bytes").decision_id
        '7'
    """

    use_case: str
    as_of: str
    reason: str
    decision_id: str

    def signed(self, secret: bytes) -> dict[str, str]:
        """As a payload, with its signature."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return fields | {SIGNATURE: _signature(fields, secret)}


def read_dispatch(payload: Mapping[str, Any], secret: bytes) -> Dispatch:
    """Check the signature of a payload, and read it.

    Raises:
        DispatchRefused: if it lacks a field, has one too many, or its signature is not that of the secret.
    """
    if not secret:
        raise DispatchRefused("there is no secret to check it with; set EVERGREEN_GITHUB__SECRET")
    expected, found = {*_FIELDS, SIGNATURE}, set(payload)
    if found != expected:
        raise DispatchRefused(f"its fields are {sorted(found)}, {sorted(expected)} are expected")
    odd = [name for name, value in payload.items() if not isinstance(value, str) or len(value) > _LONGEST]
    if odd:
        raise DispatchRefused(f"{odd} are no texts of at most {_LONGEST} characters")
    fields = {name: payload[name] for name in _FIELDS}
    if not hmac.compare_digest(_signature(fields, secret).encode(), payload[SIGNATURE].encode()):
        raise DispatchRefused("its signature does not fit what it says")
    return Dispatch(**fields)


def _signature(fields: Mapping[str, str], secret: bytes) -> str:
    """HMAC-SHA256 over the fields in order, each after its length, so that none can flow into the next.

    Source: RFC 2104.
    """
    signed = b"".join(b"%d:%s" % (len(raw), raw) for raw in (fields[name].encode() for name in _FIELDS))
    return _SCHEME + hmac.new(secret, signed, hashlib.sha256).hexdigest()
