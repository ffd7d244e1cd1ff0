"""The console in a real browser, on a desktop and on a phone: a real gateway, a real Redis, a ledger with a history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from core.clock import SystemClock
from core.decision import Decision
from core.ledger import Ledger
from serving.keys.audit import AdminAudit, Caller
from serving.keys.issuer import Issuer, Wish
from serving.keys.sql_store import SqlKeyStore
from tests.chromium import opened_page, running_chromium
from tests.conftest import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Start = Callable[..., Any]
NOW = datetime.now(UTC)
PAGES = (
    "",
    "/login",
    "/tip",
    "/tip/decisions",
    "/tip/decisions?kind=gate",
    "/decisions/{id}",
    "/tip/promote",
    "/tip/rollback",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


def record(ledger: Ledger, kind: str, action: str, days: float, version: str | None = None, **evidence: Any) -> int:
    decision = Decision(action, f"a reason with numbers, {days:g} days ago", evidence)
    at = NOW - timedelta(days=days)
    return ledger.record("tip", kind, decision, actor="flow monitor", as_of=at, version=version)


def fill(ledger: Ledger) -> int:
    """A history; the id of a verdict of the gate."""
    for generation, (version, previous) in enumerate((("3", None), ("1", "3"))):
        ledger.deploy("tip", expected_generation=generation, version=version, previous=previous, actor="ops (console)",
                      reason="it is better", as_of=NOW - timedelta(days=9 - generation))  # fmt: skip
    for day in range(8, -1, -1):
        loss = 0.5 + 0.01 * (day % 3)
        over = {"column": "a_rather_long_feature_name_of_thirty_days", "kind": "data", "effect": 0.4, "threshold": 0.2,
                "importance": 0.31, "segment": ""}  # fmt: skip
        bounded = {"value": loss, "low": loss - 0.02, "high": loss + 0.02}
        facts = {
            "version": "1", "rows": 900, "reference_log_loss": 0.49, "labels_since_training": 1200,
            "performance": {"rows": 800, "coverage": 0.8, "log_loss": bounded},
            "drift": {"rows": 900, "columns": 3, "over": [over], "called": ["data"]},
        }  # fmt: skip
        answers = {"name": "drift", "fired": False, "reason": "no"}
        record(ledger, "trigger", "wait", day, "1", facts=facts, answers=answers)
    stages = [{"name": name, "status": "done", "started_at": NOW.isoformat(), "seconds": 1.5, "says": "well"}
              for name in ("data_checks", "train", "gate")]  # fmt: skip
    record(ledger, "delivery", "done", 0.5, "4", stages=stages, decision_id="1")
    record(ledger, "promotion", "hold", 0.2, "4")
    measures = {"log_loss": 0.5, "auc": 0.7, "brier": 0.2, "calibration_error": 0.01}
    return record(ledger, "gate", "promote", 0.3, "4", challenger=measures, champion=measures, gain=0.01, rows=800,
                  gain_interval=[0.001, 0.02], segments=[], fingerprint="f" * 64)  # fmt: skip


@contextmanager
def watched(browser: Browser, width: int) -> Iterator[Page]:
    """A page of that width, which fails the test if its console has errors."""
    with opened_page(browser, width=width, height=800) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        yield page
        assert not said


def log_in(page: Page, url: str, key: str) -> None:
    page.goto(f"{url}/tip")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{url}/tip")


def test_a_person_sees_the_loop_and_rolls_back_on_desktop_and_phone(
    start: Start, browser: Browser, ledger: Ledger, tmp_path: Path
) -> None:
    gate = fill(ledger)
    with closing(SqlKeyStore(f"sqlite:///{tmp_path / 'ledger.db'}")) as store:
        issuer = Issuer(store, AdminAudit(ledger, SystemClock()), ["tip"], SystemClock())
        key = issuer.create(Wish("ops", ("admin", "predict"), ()), Caller("root")).secret
    away = str(free_port())
    gateway = start(MLFLOW__PORT=away, PREFECT__PORT=away)
    url = f"http://127.0.0.1:{gateway.port}/console"
    rows = {"instances": [{"zone": 7, "fare": 12.5}]}
    predict = url.replace("/console", "/v1/models/tip/predict")
    assert httpx.post(predict, json=rows, headers={"X-API-Key": key}).status_code == 200
    gateway.until(lambda: "tip/1" in (gateway.report() or {})["tallies"])

    with watched(browser, 375) as phone:
        log_in(phone, url, key)
        for path in PAGES:
            phone.goto(url + path.format(id=gate))
            too_wide = phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert too_wide == 0, f"{path} is {too_wide} px wider than a phone"
        phone.goto(f"{url}/tip")
        for name in ("Promote…", "Roll back to 3…", "Retrain…", "Approve version 4…"):
            box = phone.get_by_role("link", name=name).bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 375, name

    with watched(browser, 1280) as page:
        log_in(page, url, key)
        text = page.locator("main").inner_text()
        for said in (
            "Version 1", "answers since", "ops (console): it is better", "Version 4 waits for approval",
            "MLflow does not answer", "Prefect does not answer", "called: data", "80 %", "4.5 s",
        ):  # fmt: skip
            assert said in text, said
        assert page.locator("svg.canvas circle.dot").count() == 9
        traffic = page.locator("section", has=page.get_by_role("heading", name="Traffic and latency"))
        assert traffic.get_by_role("row", name="● champion 100 % 1 0").count() == 1
        page.get_by_role("link", name=f"Decision #{gate}", exact=False).first.click()
        assert "0.0100 (+0.0010 to +0.0200) on 800 rows" in page.locator("main").inner_text()
        page.goto(f"{url}/tip")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.get_by_role("link", name="Roll back to 3…").click()
        page.get_by_label("Reason").fill("it answers badly")
        page.get_by_role("button", name="Roll back").click()
        page.get_by_text("Version 3 is wanted").wait_for()
        ledger.deploy("tip", expected_generation=2, version="3", previous="1", actor="ops (console)",
                      reason="it answers badly", as_of=NOW)  # as the deployer does  # fmt: skip
        gateway.route("3", 3)
        page.get_by_text("Version 3 answers (deployment 3).").wait_for()
        assert "it answers badly" in page.locator("main").inner_text()
        page.get_by_role("link", name="Back to tip").click()
        assert "Version 3" in page.locator("main").inner_text()
        rolled_back = ledger.entries("tip", kind="promotion", limit=1)[0]

        page.get_by_role("link", name="Promote…").click()
        page.get_by_label("Version", exact=True).select_option("4")
        page.get_by_label("Reason", exact=True).fill("it has passed the gate")
        page.get_by_role("button", name="Promote").click()
        page.get_by_text("Version 4 is wanted").wait_for()
        asked = ledger.entries("tip", kind="promotion", limit=1)[0]
        assert (asked.action, asked.version, asked.evidence["pending"]) == ("promote", "4", True)  # MLflow is away

    with opened_page(browser) as page:  # where the 503 of Prefect's absence is said
        log_in(page, url, key)
        page.get_by_role("link", name="Retrain…").click()
        page.get_by_label("Reason", exact=True).fill("to see what comes of it")
        page.get_by_role("button", name="Retrain").click()
        page.get_by_role("alert").get_by_text("It was not done.").wait_for()
        assert "Prefect" in page.get_by_role("alert").inner_text()

    assert (rolled_back.action, rolled_back.version, rolled_back.actor, rolled_back.reason) == (
        "rollback",
        "3",
        "ops (console)",
        "it answers badly",
    )
    audited = [entry for entry in ledger.entries(kind="admin") if entry.evidence["outcome"] == "allowed"]
    done = [entry for entry in audited if entry.action not in ("log_in", "create_key")]
    assert [entry.action for entry in done] == ["retrain", "promote", "rollback"]
    assert all("ops" in entry.actor for entry in done)
