"""API keys at the door of a real gateway process, kept in a real database."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import SystemClock
from core.ledger import Ledger
from serving.keys.audit import AdminAudit, Caller
from serving.keys.issuer import Issued, Issuer, Wish
from serving.keys.sql_store import SqlKeyStore

Start = Callable[..., Any]
OPS = Caller("ops (evergreen)")
FEEDBACK, EVENTS = "/v1/models/tip/feedback", "/v1/events/trips"
EVENT = {"events": [{"id": "a", "at": "2019-02-02T12:00:00Z", "zone": 7}]}
SCOPES = ("predict", "feedback", "events", "admin")


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    """What `evergreen keys` uses, on the ledger of the gateway's home folder."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with closing(Ledger(url)) as ledger, closing(SqlKeyStore(url)) as store:
        ledger.migrate()
        yield Issuer(store, AdminAudit(ledger, SystemClock()), ["tip"], SystemClock())


def ask(
    gateway: Any, key: Issued | str | None, path: str = EVENTS, document: object = EVENT, method: str = "POST"
) -> tuple[int, Any, dict[str, str]]:
    """Status, document and headers of an answer."""
    headers = {} if key is None else {"X-API-Key": key if isinstance(key, str) else key.secret}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request(method, path, json.dumps(document) if method == "POST" else None, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(answer.read() or b"null"), found
    finally:
        connection.close()


def test_keys_missing_wrong_of_another_scope_and_over_quota(start: Start, issuer: Issuer) -> None:
    sender = issuer.create(Wish("sender", ["events"], quota_per_day=3), OPS)
    gateway = start()
    for key in (None, "nonsense", sender.secret[:-1] + "~", "eg_000000000000_" + "x" * 43):
        status, problem, headers = ask(gateway, key)
        assert (status, problem["title"]) == (401, "Unauthorized")
        assert headers["www-authenticate"].startswith("ApiKey")
    status, problem, _ = ask(gateway, sender, FEEDBACK, {"labels": []})
    assert (status, problem["title"]) == (403, "Forbidden")
    assert "may events; this call needs feedback" in problem["detail"]
    assert [ask(gateway, sender)[0] for _ in range(3)] == [202, 202, 202]
    status, problem, headers = ask(gateway, sender)
    assert (status, problem["title"]) == (429, "Quota exceeded")
    assert int(headers["retry-after"]) > 0
    assert headers["ratelimit-policy"] == '"quota";q=3;w=86400'


def test_a_revocation_counts_within_a_second(start: Start, issuer: Issuer) -> None:
    key = issuer.create(Wish("sender", ["events"]), OPS)
    gateway = start()
    assert ask(gateway, key)[0] == 202
    issuer.revoke(key.key.id, OPS)
    revoked_s = time.monotonic()
    gateway.until(lambda: ask(gateway, key)[0] == 401)
    assert time.monotonic() - revoked_s < 1.0
    assert "was revoked" in ask(gateway, key)[1]["detail"]


def test_the_first_key_closes_the_door(start: Start, issuer: Issuer) -> None:
    gateway = start()
    assert ask(gateway, None)[0] == 202
    assert ask(gateway, None, "/v1/admin/keys", method="GET")[0] == 403
    key = issuer.create(Wish("ops", SCOPES), OPS)
    gateway.until(lambda: ask(gateway, None)[0] == 401)
    assert ask(gateway, key)[0] == 202
    assert ask(gateway, None, "/healthz", method="GET")[0] == 200


def test_a_rotated_key_goes_on_for_its_overlap_alone(start: Start, issuer: Issuer) -> None:
    old = issuer.create(Wish("ops", SCOPES), OPS)
    gateway = start()
    status, answer, _ = ask(gateway, old, f"/v1/admin/keys/{old.key.id}/rotate", {"overlap_s": 86_400})
    assert status == 201
    assert ask(gateway, old)[0] == ask(gateway, answer["api_key"])[0] == 202
    short = issuer.rotate(answer["id"], timedelta(seconds=1), OPS)
    gateway.until(lambda: ask(gateway, answer["api_key"])[0] == 401)
    assert "expired" in ask(gateway, answer["api_key"])[1]["detail"]
    assert ask(gateway, short)[0] == 202
    status, listed, _ = ask(gateway, short, "/v1/admin/keys", method="GET")
    assert (status, [key["state"] for key in listed["keys"]]) == (200, ["live", "expired", "live"])
