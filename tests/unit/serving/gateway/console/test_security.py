"""Who may see and do what in the console, and what its pages can be made to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.decision import Decision
from core.ledger import Entry, Ledger
from serving.gateway.console.login_limit import LoginLimit
from serving.gateway.console.reports import SANDBOX, read_report
from serving.gateway.console.sessions import COOKIE, Sessions
from serving.gateway.problems import TooManyLogIns
from serving.keys.key import SCOPES, Key
from tests.conftest import free_port
from tests.unit.serving.gateway.conftest import Running, World

pytestmark = pytest.mark.anyio
ROOT = {"X-API-Key": "root"}
KEY = Key("0123456789ab", "ops", "d" * 64, frozenset(SCOPES), frozenset(), None, None, created_at=datetime.now(UTC))


@pytest.fixture
def away() -> dict[str, Any]:
    """Settings under which nobody answers where other services are expected."""
    port = free_port()
    return {
        "redis": {"url": f"redis://127.0.0.1:{port}/0"}, "mlflow": {"port": port}, "prefect": {"port": port},
        "gateway": {"api_key": "root"},
    }  # fmt: skip


def field(name: str, page: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name}"
    return found[1]


async def log_in(world: World, key: str = "root", then: str = "/console") -> httpx.Response:
    form = await world.client.get("/console/login", params={"next": then})
    sent = {"key": key, "token": field("token", form.text), "next": field("next", form.text)}
    return await world.client.post("/console/login", data=sent)


async def issue(world: World, **wish: Any) -> dict[str, Any]:
    answer = await world.client.post(
        "/v1/admin/keys", json={"name": "ann", "scopes": ["predict"], **wish}, headers=ROOT
    )
    issued: dict[str, Any] = answer.json()
    return issued


def recorded(home: Path) -> list[Entry]:
    with closing(Ledger(f"sqlite:///{home / 'ledger.db'}")) as ledger:
        return list(reversed(ledger.entries(kind="admin")))


async def test_open_access_may_look_and_not_act(running: Running, away: dict[str, Any]) -> None:
    async with running(**away | {"gateway": {}}) as world:
        page = await world.client.get("/console/tip")
        assert page.status_code == 200
        assert "evergreen keys create NAME --scopes admin" in page.text
        assert "Promote…" not in page.text
        assert (await world.client.get("/console/tip/promote")).headers["location"].startswith("/console/login")
        assert (await world.client.post("/console/tip/retrain", data={"reason": "x"})).status_code == 401
        assert (await log_in(world)).status_code == 401


async def test_without_a_key_there_is_only_the_form(running: Running, away: dict[str, Any]) -> None:
    async with running(**away) as world:
        for path in (
            "/console",
            "/console/tip",
            "/console/tip/decisions",
            "/console/decisions/1",
            "/console/reports/tip/a.html",
        ):
            answer = await world.client.get(path)
            assert (answer.status_code, answer.text) == (303, ""), path
            assert answer.headers["location"].startswith("/console/login?next=%2Fconsole"), path
        assert (await world.client.get("/console/tip/progress.json")).status_code == 401
        assert (await world.client.get("/console/static/console.css")).status_code == 200
        assert (await world.client.get("/console/tip", headers={"X-API-Key": "wrong"})).status_code == 401
        assert (await world.client.get("/console/tip", headers=ROOT)).status_code == 200


async def test_a_log_in_makes_a_cookie_that_scripts_and_other_sites_cannot_use(
    running: Running, away: dict[str, Any], tmp_path: Path
) -> None:
    async with running(**away) as world:
        answer = await log_in(world, then="/console/tip")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/tip")
        (cookie,) = (line for line in answer.headers.get_list("set-cookie") if line.startswith(COOKIE))
        assert {"httponly", "samesite=strict", "path=/console", "max-age=1800"} <= set(cookie.lower().split("; "))
        assert "secure" not in cookie.lower()
        assert "root" not in cookie
        page = await world.client.get("/console/tip")
        assert "Promote…" in page.text and "root" not in page.text
        token = field("token", page.text)
        assert (await world.client.post("/console/logout", data={"token": "no"})).status_code == 403
        assert (await world.client.post("/console/logout", data={"token": token})).status_code == 303
        assert (await world.client.get("/console/tip")).status_code == 303
    entry = recorded(tmp_path)[-1]
    assert (entry.action, entry.evidence["outcome"], entry.evidence["address"]) == ("log_in", "allowed", "127.0.0.1")


@pytest.mark.parametrize("settings", [{"console": {"behind_tls": True}}])
async def test_behind_tls_the_cookie_is_for_https_alone(
    running: Running, away: dict[str, Any], settings: dict[str, Any]
) -> None:
    async with running(**away, **settings) as world:
        form = await world.client.get("/console/login")
        assert "secure" in form.headers["set-cookie"].lower().split("; ")


@pytest.mark.parametrize(
    "where", ["https://evil.example/console", "//evil.example", "/console\\@evil.example", "/v1/x", ""]
)
async def test_a_log_in_leads_nowhere_else(running: Running, away: dict[str, Any], where: str) -> None:
    async with running(**away) as world:
        assert (await log_in(world, then=where)).headers["location"] == "/console"


async def test_forms_need_their_token_and_their_own_site(
    running: Running, away: dict[str, Any], tmp_path: Path
) -> None:
    async with running(**away) as world:
        form = await world.client.get("/console/login")
        assert (await world.client.post("/console/login", data={"key": "root", "token": "forged"})).status_code == 403
        token = field("token", form.text)
        foreign = {"Origin": "https://evil.example"}
        sent = {"key": "root", "token": token}
        assert (await world.client.post("/console/login", data=sent, headers=foreign)).status_code == 403
        await log_in(world)
        asked = await world.client.get("/console/tip/retrain")
        token, wish = field("token", asked.text), {"reason": "because"}
        for data, headers in (
            (wish, {}), ({**wish, "token": "forged"}, {}), ({**wish, "token": token}, foreign),
            ({**wish, "token": token}, {"Sec-Fetch-Site": "cross-site"}),
        ):  # fmt: skip
            answer = await world.client.post("/console/tip/retrain", data=data, headers=headers)
            assert answer.status_code == 403
        assert (await world.client.post("/console/tip/retrain", json={**wish, "token": token})).status_code == 400
        answer = await world.client.post("/console/tip/retrain", data={**wish, "token": token, "once": "1"})
        assert answer.status_code == 503
        assert "It was not done." in answer.text and "Prefect does not answer" in answer.text
    done = [(entry.action, entry.evidence["outcome"]) for entry in recorded(tmp_path)][-2:]
    assert done == [("retrain", "allowed"), ("retrain", "refused")]


async def test_a_key_without_the_scope_admin_may_look_only(running: Running, away: dict[str, Any]) -> None:
    async with running(**away) as world:
        issued = await issue(world, scopes=["predict"])
        assert (await log_in(world, issued["api_key"])).status_code == 303
        page = await world.client.get("/console/tip")
        assert page.status_code == 200 and "Promote…" not in page.text
        token = field("token", page.text)
        answer = await world.client.post("/console/tip/promote", data={"token": token, "version": "1", "reason": "x"})
        assert (answer.status_code, "may look" in answer.text) == (403, True)
        await world.client.delete(f"/v1/admin/keys/{issued['id']}", headers=ROOT)
        assert (await world.client.get("/console/tip")).status_code == 303, "a revoked key's session goes on"


async def test_a_key_of_other_use_cases_sees_nothing_of_this_one(running: Running, away: dict[str, Any]) -> None:
    async with running(**away) as world:
        issued = await issue(world, use_cases=["tip"])
        headers = {"X-API-Key": issued["api_key"]}
        assert (await world.client.get("/console/tip", headers=headers)).status_code == 200
        assert (await world.client.get("/console/other", headers=headers)).status_code == 404
        listed = await world.client.get("/console/tip/decisions?kind=admin", headers=headers)
        assert listed.status_code == 303


async def test_evidence_and_reasons_are_text_and_administration_is_for_admins(
    running: Running, away: dict[str, Any], tmp_path: Path
) -> None:
    async with running(**away) as world:
        issued = await issue(world)
        with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
            script = "<script>alert(1)</script>"
            id = ledger.record("tip", "gate", Decision("keep", script, {script: [script, {"a": script}]}), actor=script,
                               as_of=datetime.now(UTC))  # fmt: skip
        for path in (f"/console/decisions/{id}", "/console/tip/decisions", "/console/tip"):
            page = await world.client.get(path, headers=ROOT)
            assert page.status_code == 200
            assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text, path
        assert (
            await world.client.get("/console/decisions/1", headers={"X-API-Key": issued["api_key"]})
        ).status_code == 404
        assert (await world.client.get("/console/decisions/1", headers=ROOT)).status_code == 200
        for wrong in ("0", "999", "-1", "x", "9" * 40):
            assert (await world.client.get(f"/console/decisions/{wrong}", headers=ROOT)).status_code == 404


async def test_every_answer_forbids_what_a_page_need_not_do(running: Running, away: dict[str, Any]) -> None:
    async with running(**away) as world:
        for path in (
            "/console",
            "/console/login",
            "/console/static/console.js",
            "/console/nothing",
            "/console/tip/promote",
        ):
            headers = (await world.client.get(path, headers=ROOT)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
        page = (await world.client.get("/console/tip", headers=ROOT)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style|https?://(?!127\.0\.0\.1)", page)


async def test_reports_are_served_from_their_folder_alone_and_in_a_sandbox(
    running: Running, away: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "reports" / "tip"
    folder.mkdir(parents=True)
    (folder / "2019-02-02T120000-v7.html").write_text("<p>moved")
    (folder / "secret.txt").write_text("no")
    (tmp_path / "reports" / "secret.html").write_text("no")
    (folder / "away.html").symlink_to(tmp_path / "ledger.db")
    async with running(**away) as world:
        answer = await world.client.get("/console/reports/tip/2019-02-02T120000-v7.html", headers=ROOT)
        assert (answer.status_code, answer.text) == (200, "<p>moved")
        assert answer.headers["content-security-policy"] == SANDBOX
        assert "allow-same-origin" not in SANDBOX
        for name in (
            "secret.txt",
            "away.html",
            "..%2Fsecret.html",
            "%2e%2e%2fsecret.html",
            ".hidden.html",
            "a%00.html",
        ):
            answer = await world.client.get(f"/console/reports/tip/{name}", headers=ROOT)
            assert answer.status_code == 404, name
        assert "2019-02-02T120000-v7.html" in (await world.client.get("/console/tip", headers=ROOT)).text


@pytest.mark.parametrize(
    ("use_case", "name"),
    [
        ("..", "secret.html"), ("tip", "../secret.html"), ("tip/..", "secret.html"), (".", "secret.html"),
        ("tip", "/etc/passwd"), ("", "secret.html"),
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_reports(tmp_path: Path, use_case: str, name: str) -> None:
    (tmp_path / "reports" / "tip").mkdir(parents=True)
    (tmp_path / "reports" / "secret.html").write_text("no")
    assert read_report(tmp_path / "reports", use_case, name) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-2] + ("AA" if c[-2:] != "AA" else "BB"), lambda c: "A" + c[1:], lambda c: c.partition(".")[0],
        lambda c: "." + c.partition(".")[2], lambda c: "", lambda c: "é.é",
    ],
)  # fmt: skip
def test_a_forged_cookie_is_none(change: Callable[[str], str]) -> None:
    sessions = Sessions(b"secret", 1800)
    cookie = sessions.open(KEY)
    assert sessions.read(cookie) is not None
    assert sessions.read(change(cookie)) is None
    assert Sessions(b"another", 1800).read(cookie) is None


def test_a_session_ends_without_clicks_and_after_eight_hours_with_them() -> None:
    now = [1000.0]
    sessions = Sessions(b"secret", 1800, seconds=lambda: now[0])
    cookie = sessions.open(KEY)
    claim = sessions.read(cookie)
    assert claim is not None and sessions.renewed(claim) is None
    now[0] += 1801
    assert sessions.read(cookie) is None
    cookie, began = sessions.open(KEY), now[0]
    while (claim := sessions.read(cookie)) is not None:
        cookie = sessions.renewed(claim) or cookie
        now[0] += 600
    assert 8 * 3600 - 1800 <= now[0] - began <= 8 * 3600 + 600


def test_whoever_tries_keys_is_slowed_down() -> None:
    now = [0.0]
    limit = LoginLimit(seconds=lambda: now[0])
    for _ in range(10):
        limit.require_room("10.0.0.1")
        limit.failed("10.0.0.1")
    with pytest.raises(TooManyLogIns, match="Try again in 60 s"):
        limit.require_room("10.0.0.1")
    limit.require_room("10.0.0.2")
    now[0] = 61.0
    limit.require_room("10.0.0.1")
