from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.clock import ManualClock
from core.errors import InvalidField, KeyEnded, Unauthorized, UnknownKey
from core.ledger import Entry, Ledger
from serving.keys.audit import AdminAudit, Caller
from serving.keys.issuer import Issuer, Wish, described
from serving.keys.key import digest_of
from serving.keys.store import MemoryKeyStore

NOW = datetime(2019, 2, 2, 12, tzinfo=UTC)
OPS = Caller("ops (evergreen)", "127.0.0.1")
WISH = Wish("shop", ["predict", "feedback"], ["tip"], 50, 1000, NOW + timedelta(days=90))


class Office:
    """An issuer and everything around it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", self.clock)
        self.store = MemoryKeyStore()
        self.audit = AdminAudit(self.ledger, self.clock)
        self.issuer = Issuer(self.store, self.audit, ["tip", "click"], self.clock)

    def entries(self) -> list[Entry]:
        return list(reversed(self.ledger.entries(kind="admin")))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    with closing(office.ledger):
        yield office


def test_a_key_is_kept_without_its_secret_and_recorded(office: Office) -> None:
    issued = office.issuer.create(WISH, OPS)
    (kept,) = office.store.read()
    assert kept == issued.key
    assert kept.digest == digest_of(issued.secret.encode())
    assert kept.may == "predict, feedback of tip"
    (entry,) = office.entries()
    assert (entry.use_case, entry.action, entry.actor) == ("*", "create_key", "ops (evergreen)")
    assert entry.evidence["outcome"] == "allowed" and entry.evidence["address"] == "127.0.0.1"
    assert entry.evidence["id"] == kept.id
    assert issued.secret[16:] not in str(entry) and kept.digest not in str(entry)
    assert kept.digest not in str(described(kept, NOW))


def test_a_rotated_key_goes_on_for_the_overlap(office: Office) -> None:
    first = office.issuer.create(WISH, OPS).key
    office.clock.advance(timedelta(days=1))
    second = office.issuer.rotate(first.id, timedelta(hours=2), OPS)
    old, new = office.store.read()
    assert (old.replaced_by, old.expires_at) == (new.id, NOW + timedelta(days=1, hours=2))
    assert new == second.key
    assert replace(new, id=first.id, digest=first.digest, created_at=first.created_at) == first
    assert old.state(NOW + timedelta(days=1)) == "live"
    assert old.state(NOW + timedelta(days=1, hours=2)) == "expired"
    assert office.entries()[-1].evidence["successor"] == new.id
    with pytest.raises(KeyEnded):
        office.issuer.rotate(first.id, timedelta(hours=2), OPS)
    for overlap in (timedelta(seconds=-1), timedelta(days=400)):
        with pytest.raises(InvalidField, match="overlap_s"):
            office.issuer.rotate(new.id, overlap, OPS)


def test_a_revoked_key_stays_in_the_list(office: Office) -> None:
    key = office.issuer.create(WISH, OPS).key
    assert office.issuer.revoke(key.id, OPS).revoked_at == NOW
    office.clock.advance(timedelta(hours=1))
    assert office.issuer.revoke(key.id, OPS).revoked_at == NOW
    assert [key.state(NOW) for key in office.issuer.keys(OPS)] == ["revoked"]
    with pytest.raises(UnknownKey):
        office.issuer.revoke("0" * 12, OPS)
    assert [entry.action for entry in office.entries()] == ["create_key", "revoke_key", "revoke_key", "list_keys"]


@pytest.mark.parametrize(("changes", "field"), [
    ({"name": ""}, "name"),
    ({"name": " a"}, "name"),
    ({"name": "a\x00"}, "name"),
    ({"name": "\ud800"}, "name"),
    ({"name": "x" * 65}, "name"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["predict", "all"]}, "scopes"),
    ({"use_cases": ["nonesuch"]}, "use_cases"),
    ({"scopes": ["admin"]}, "use_cases"),
    ({"rate_per_s": 0}, "rate_per_s"),
    ({"rate_per_s": -(10**30)}, "rate_per_s"),
    ({"quota_per_day": 10**12 + 1}, "quota_per_day"),
    ({"expires_at": NOW}, "expires_at"),
])  # fmt: skip
def test_what_cannot_be_a_key_is_refused_by_its_field(office: Office, changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        office.issuer.create(replace(WISH, **changes), OPS)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert office.store.read() == []


def test_refusals_are_recorded_up_to_a_number_a_minute(office: Office) -> None:
    nobody = Caller("nobody", "10.0.0.1")
    for _ in range(70):
        office.audit.refuse("list_keys", nobody, Unauthorized("The API key is wrong."))
    assert len(office.entries()) == 60
    assert office.entries()[0].reason.startswith("refused: X-API-Key: The API key is wrong.")
    office.clock.advance(timedelta(minutes=1))
    office.audit.refuse("list_keys", nobody, Unauthorized("The API key is wrong."))
    assert office.entries()[-1].evidence["refusals_not_written_before"] == 10
