from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ledger import Entry, Ledger
from serving.gateway.pydantic_faults import invalid_fields
from tests.unit.serving.gateway.conftest import Running, World

pytestmark = pytest.mark.anyio
KEYS = "/v1/admin/keys"
ROOT = {"X-API-Key": "root"}
GATEWAY = {"api_key": "root"}
WISH = {"name": "shop", "scopes": ["predict"]}


def entries(tmp_path: Path) -> list[Entry]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        return list(reversed(ledger.entries(kind="admin")))


async def issue(world: World, **wish: Any) -> dict[str, Any]:
    answer = await world.client.post(KEYS, json=WISH | wish, headers=ROOT)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    issued: dict[str, Any] = answer.json()
    return issued


async def test_a_key_is_issued_used_rotated_and_revoked(running: Running, tmp_path: Path) -> None:
    async with running(gateway=GATEWAY) as world:
        issued = await issue(world, use_cases=["tip"], rate_per_s=100, expires_at="2999-01-01T00:00:00Z")
        assert (issued["state"], issued["scopes"]) == ("live", ["predict"])
        assert (await world.predict(world.good_row, **{"X-API-Key": issued["api_key"]})).status_code == 200
        answer = await world.client.post(f"{KEYS}/{issued['id']}/rotate", json={"overlap_s": 0}, headers=ROOT)
        assert answer.status_code == 201
        successor = answer.json()
        assert (await world.predict(world.good_row, **{"X-API-Key": issued["api_key"]})).status_code == 401
        assert (await world.predict(world.good_row, **{"X-API-Key": successor["api_key"]})).status_code == 200
        answer = await world.client.delete(f"{KEYS}/{successor['id']}", headers=ROOT)
        assert (answer.status_code, answer.json()["state"]) == (200, "revoked")
        refused = await world.predict(world.good_row, **{"X-API-Key": successor["api_key"]})
        assert (refused.status_code, "was revoked" in refused.json()["detail"]) == (401, True)
        listed = (await world.client.get(KEYS, headers=ROOT)).json()["keys"]
    assert [(key["id"], key["state"]) for key in listed] == [(issued["id"], "expired"), (successor["id"], "revoked")]
    assert "api_key" not in listed[0] and "digest" not in listed[0]
    recorded = entries(tmp_path)
    assert [entry.action for entry in recorded] == ["create_key", "rotate_key", "revoke_key", "list_keys"]
    assert {entry.actor for entry in recorded} == {"setting EVERGREEN_GATEWAY__API_KEY"}
    assert recorded[0].evidence["address"] == "127.0.0.1"
    for secret in (issued["api_key"], successor["api_key"]):
        assert secret[16:] not in str(recorded)


async def test_admin_is_never_open(running: Running, tmp_path: Path) -> None:
    async with running() as world:
        answer = await world.client.post(KEYS, json=WISH)
        assert answer.status_code == 403
        assert "evergreen keys create" in answer.json()["remedy"]
        assert (await world.predict(world.good_row)).status_code == 200
    (entry,) = entries(tmp_path)
    assert (entry.actor, entry.evidence["outcome"], entry.evidence["error"]) == (
        "nobody known", "refused", "Forbidden",
    )  # fmt: skip


async def test_refused_calls_are_recorded(running: Running, tmp_path: Path) -> None:
    async with running(gateway=GATEWAY) as world:
        issued = await issue(world)
        for headers, status in (({}, 401), ({"X-API-Key": "guess"}, 401), ({"X-API-Key": issued["api_key"]}, 403)):
            for method, path in (("GET", KEYS), ("POST", KEYS), ("DELETE", f"{KEYS}/{issued['id']}")):
                answer = await world.client.request(method, path, headers=headers)
                assert answer.status_code == status
                assert answer.headers["content-type"] == "application/problem+json"
                assert (status == 401) == ("www-authenticate" in answer.headers)
    outcomes = [entry.evidence["outcome"] for entry in entries(tmp_path)]
    assert outcomes == ["allowed"] + ["refused"] * 9
    assert not any(secret in str(entries(tmp_path)) for secret in ("guess", issued["api_key"][16:]))


@pytest.mark.parametrize(("change", "field"), [
    ({"name": ""}, "name"),
    ({"name": "\x00"}, "name"),
    ({"name": 7}, "name"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["predict", "root"]}, "scopes[1]"),
    ({"scopes": "predict"}, "scopes"),
    ({"use_cases": ["nonesuch"]}, "use_cases"),
    ({"rate_per_s": -1}, "rate_per_s"),
    ({"rate_per_s": 10**30}, "rate_per_s"),
    ({"rate_per_s": 1.5}, "rate_per_s"),
    ({"quota_per_day": True}, "quota_per_day"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
    ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ({"expires_at": 5}, "expires_at"),
    ({"ünknown\x00": 1}, "\\xfcnknown\\x00"),
])  # fmt: skip
async def test_what_is_wrong_is_named_by_its_field(running: Running, change: dict[str, Any], field: str) -> None:
    async with running(gateway=GATEWAY) as world:
        answer = await world.client.post(KEYS, json=WISH | change, headers=ROOT)
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["field"] == field
        assert problem["remedy"] and problem["detail"]


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b'{"name": NaN}', b'{"name": "\\ud800", "scopes": ["predict"]}', b'{"name": 1, "name": 2}',
    b"\xff", b"[" * 100_000, b"x" * 70_000,
])  # fmt: skip
async def test_a_body_that_is_no_object_is_a_problem(running: Running, body: bytes) -> None:
    async with running(gateway=GATEWAY) as world:
        for path in (KEYS, f"{KEYS}/0123456789ab/rotate"):
            answer = await world.client.post(path, content=body, headers=ROOT)
            assert answer.status_code in (400, 404, 413), "an empty body rotates with the defaults"
            assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize("key_id", ["0" * 12, "%00", "%F0%9F%94%91", "%ED%A0%80", "x" * 5000, "..", "a'--"])
async def test_a_key_that_is_not_there_is_404(running: Running, key_id: str) -> None:
    async with running(gateway=GATEWAY) as world:
        for method, path in (("DELETE", f"{KEYS}/{key_id}"), ("POST", f"{KEYS}/{key_id}/rotate")):
            answer = await world.client.request(method, path, headers=ROOT)
            assert answer.status_code in (404, 405)


async def test_a_key_that_ended_is_409(running: Running) -> None:
    async with running(gateway=GATEWAY) as world:
        issued = await issue(world)
        await world.client.delete(f"{KEYS}/{issued['id']}", headers=ROOT)
        answer = await world.client.post(f"{KEYS}/{issued['id']}/rotate", headers=ROOT)
        assert (answer.status_code, answer.json()["title"]) == (409, "Key ended")


async def test_admin_calls_are_described(running: Running) -> None:
    async with running() as world:
        document = (await world.client.get("/openapi.json")).json()
    operation = document["paths"][KEYS]["post"]
    assert operation["security"] == [{"key": []}]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {
        "name", "scopes", "use_cases", "rate_per_s", "quota_per_day", "expires_at",
    }  # fmt: skip
    assert document["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"


async def test_without_its_ledger_nothing_is_administered(running: Running, tmp_path: Path) -> None:
    async with running(gateway=GATEWAY, ledger={"url": f"sqlite:///{tmp_path}"}) as world:
        answer = await world.client.post(KEYS, json=WISH, headers=ROOT)
        assert (answer.status_code, answer.json()["title"]) == (503, "Dependency down")
        answer = await world.client.get(KEYS)
        assert answer.status_code == 503


async def test_pages_need_a_key_beyond_this_machine(running: Running) -> None:
    async with running(gateway=GATEWAY | {"host": "0.0.0.0"}) as world:
        for path in ("/metrics", "/docs", "/openapi.json", "/nonesuch"):
            assert (await world.client.get(path)).status_code == 401
            assert (await world.client.get(path, headers=ROOT)).status_code in (200, 404)
        for path in ("/healthz", "/readyz"):
            assert (await world.client.get(path)).status_code == 200
    async with running(gateway=GATEWAY) as world:
        for path in ("/metrics", "/docs", "/openapi.json"):
            assert (await world.client.get(path)).status_code == 200
        assert (await world.client.get("/v1/models")).status_code == 401


async def test_limits_say_when_to_come_back(running: Running) -> None:
    async with running(gateway=GATEWAY) as world:
        key = {"X-API-Key": (await issue(world, quota_per_day=2))["api_key"]}
        answers: list[httpx.Response] = [await world.predict(world.good_row, **key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = answers[-1]
    assert refused.json()["title"] == "Quota exceeded"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["ratelimit-policy"] == '"quota";q=2;w=86400'
    assert refused.headers["ratelimit"] == f'"quota";r=0;t={refused.headers["retry-after"]}'


@given(st.lists(st.one_of(st.integers(), st.text()), max_size=4), st.text(), st.text())
def test_whatever_pydantic_finds_can_be_said(loc: list[int | str], message: str, value: str) -> None:
    (fault,) = invalid_fields([{"type": "x", "loc": loc, "msg": message, "input": value}]).faults
    assert fault.field.isprintable() and fault.remedy
