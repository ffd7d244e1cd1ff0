"""Alerts reach a real webhook and a real mail server; one that is away fails no flow and is tried again."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from pydantic import Field, SecretStr, ValidationError

from core.clock import ManualClock, SystemClock
from core.decision import Decision
from core.errors import DependencyDown, SettingsError
from core.ledger import Ledger
from core.settings import AlertSettings
from flows.alert_channels import Email, PrefectBlock, Webhook, channels_of, headline
from flows.alerting import send_alerts
from monitoring.alerts import KIND, Alert
from tests.loopback import answering
from tests.mail_server import MailServer, running_mail_server

NAME = "taxi_tip"
ALERT = Alert(
    use_case=NAME, cause="look/fault/unit/fare", severity="page", title="unit in fare", reason="fare < 1 & odd",
    decision_id=7, command="evergreen explain 7", lasts=True,
)  # fmt: skip


class Hook(ThreadingHTTPServer):
    """A webhook that keeps what it gets, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.said: list[str] = []
        self.status = 200

    def settings(self, **others: Any) -> AlertSettings:
        return AlertSettings(webhook_url=SecretStr(f"http://127.0.0.1:{self.server_port}/T0/secret"), **others)


class _Post(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        self.server.said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with answering(Hook(), monkeypatch) as server:
        yield server


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with running_mail_server() as server:
        yield server


def mail_settings(server: MailServer, **others: Any) -> AlertSettings:
    given = {"email_to": "a@x.org, b@x.org", "email_from": "evergreen@x.org", "smtp_host": "127.0.0.1"}
    return AlertSettings(**{**given, "smtp_port": server.port, "smtp_tls": "none", **others})


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A ledger whose clock can be moved, and the events that were emitted."""
    clock = ManualClock(SystemClock().now() - timedelta(hours=6))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)
    ledger.migrate()
    emitted: list[tuple[str, Any]] = []
    monkeypatch.setattr("prefect.events.emit_event", lambda name, **what: emitted.append((name, what)))
    yield SimpleNamespace(
        ledger=ledger, clock=clock, emitted=emitted, settings=SimpleNamespace(linked_alerts=AlertSettings()),
        moment=lambda name, as_of: clock.now(),
    )  # fmt: skip
    ledger.close()


def look(context: Any, *faults: dict[str, str]) -> None:
    """A look of the monitor an hour later, and its alerts."""
    decision = Decision("block" if faults else "wait", "as it is", {"rows": 1000, "faults": list(faults)})
    context.clock.advance(timedelta(hours=1))
    context.ledger.record(NAME, "trigger", decision, actor="t", as_of=context.clock.now())
    send_alerts(context, NAME)


FAULT = {"column": "fare", "kind": "unit", "detail": "fare is 100 times what it was"}


def test_an_alert_says_why_where_and_what_to_do(hook: Hook) -> None:
    settings = hook.settings(link="https://ops.example/decisions/{id}")

    Webhook(settings).send(ALERT)

    assert hook.said == [
        "<!channel> *[page] taxi_tip: unit in fare*\nfare &lt; 1 &amp; odd\n"
        "Decision 7: https://ops.example/decisions/7\nTo act: evergreen explain 7"
    ]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_is_an_error_without_its_address(hook: Hook, status: int) -> None:
    hook.status = status

    with pytest.raises(DependencyDown, match=f"HTTP {status}") as caught:
        Webhook(hook.settings()).send(ALERT)

    assert "secret" not in str(caught.value)
    assert len(hook.said) == 1, "it was not followed elsewhere"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/T0/secret", "nonsense/secret", "ftp://x/secret"])
def test_a_webhook_that_is_not_there_is_an_error_without_its_address(url: str) -> None:
    with pytest.raises(DependencyDown) as caught:
        Webhook(AlertSettings(webhook_url=SecretStr(url))).send(ALERT)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_mail_goes_to_everybody(mail: MailServer) -> None:
    Email(mail_settings(mail)).send(ALERT)

    (sent,) = mail.mails
    assert "Subject: [page] taxi_tip: unit in fare" in sent
    assert "To act: evergreen explain 7" in sent
    assert mail.recipients == ["<a@x.org>", "<b@x.org>"]
    assert mail.logins == []


def test_mail_logs_in_where_a_user_is_set(mail: MailServer) -> None:
    Email(mail_settings(mail, smtp_user="eve", smtp_password=SecretStr("pw"))).send(ALERT)

    assert [base64.b64decode(login) for login in mail.logins] == [b"\0eve\0pw"]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_mail_does_not_go_out_unencrypted_where_encryption_is_asked_for(mail: MailServer, tls: str) -> None:
    with pytest.raises(DependencyDown, match="mail server 127"):
        Email(mail_settings(mail, smtp_tls=tls, timeout_s=0.5)).send(ALERT)

    assert mail.mails == []


def test_mail_that_nobody_takes_is_an_error(mail: MailServer) -> None:
    mail.refuses = True
    with pytest.raises(DependencyDown, match="SMTPRecipientsRefused"):
        Email(mail_settings(mail)).send(ALERT)


def test_mail_needs_a_sender_and_a_server() -> None:
    with pytest.raises(ValidationError, match="EVERGREEN_ALERTS__SMTP_HOST"):
        AlertSettings(email_to="a@x.org")


class Told(NotificationBlock):
    """A block that keeps what it is told, or fails."""

    heard: list[str] = Field(default_factory=list)
    fails: bool = False

    def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        if self.fails:
            raise RuntimeError("no such channel")
        self.heard.append(f"{subject}: {body}")


def test_a_prefect_block_is_notified(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Told()
    monkeypatch.setattr(Block, "load", lambda name: block if name == "told/on-call" else object())

    PrefectBlock(AlertSettings(prefect_block="told/on-call")).send(ALERT)

    assert block.heard[0].startswith("[page] taxi_tip: unit in fare: fare < 1 & odd\nDecision 7\n")
    with pytest.raises(SettingsError, match="notifies nobody"):
        PrefectBlock(AlertSettings(prefect_block="secret/x")).send(ALERT)
    block.fails = True
    with pytest.raises(DependencyDown, match="no such channel"):
        PrefectBlock(AlertSettings(prefect_block="told/on-call")).send(ALERT)


def test_only_what_is_set_is_used(hook: Hook, mail: MailServer) -> None:
    assert [channel.name for channel in channels_of(AlertSettings())] == ["prefect event"]
    both = mail_settings(mail, webhook_url=SecretStr("http://x"), prefect_block="a/b")
    assert [channel.name for channel in channels_of(both)] == ["prefect event", "prefect block", "webhook", "e-mail"]


def test_a_fault_is_told_once_everywhere(context: Any, hook: Hook) -> None:
    context.settings.linked_alerts = hook.settings()

    for _ in range(4):
        look(context, FAULT)

    assert len(hook.said) == 1
    assert "fare is 100 times what it was" in hook.said[0]
    ((name, event),) = context.emitted
    assert name == "evergreen.alert"
    assert event["resource"]["prefect.resource.id"] == "evergreen.use-case.taxi_tip"
    assert event["payload"]["decision_id"] == 1
    (entry,) = context.ledger.entries(NAME, kind=KIND)
    assert (entry.action, entry.evidence["delivered"]) == ("raise", {"prefect event": True, "webhook": True})


def test_a_webhook_that_is_away_is_tried_again_at_the_next_look(
    context: Any, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    context.settings.linked_alerts, hook.status = hook.settings(), 503

    look(context, FAULT)
    look(context, FAULT)
    hook.status = 200
    look(context, FAULT)
    look(context, FAULT)

    assert len(hook.said) == 3
    assert len(context.emitted) == 1, "what got through is not told again"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "HTTP 503" in caplog.text
    actions = [entry.action for entry in reversed(context.ledger.entries(NAME, kind=KIND))]
    assert actions == ["raise", "retry", "retry"]


def test_what_is_over_is_noted_and_may_be_told_again(context: Any, hook: Hook) -> None:
    context.settings.linked_alerts = hook.settings()

    look(context, FAULT)
    look(context)
    look(context, FAULT)

    assert len(hook.said) == 2
    actions = [entry.action for entry in reversed(context.ledger.entries(NAME, kind=KIND))]
    assert actions == ["raise", "end", "raise"]


def test_notices_may_be_left_out(context: Any, hook: Hook) -> None:
    context.settings.linked_alerts = hook.settings(least="page")
    called = Decision("retrain", "the scores moved", {"trigger": "drift", "rows": 1000})
    context.ledger.record(NAME, "trigger", called, actor="t", as_of=context.clock.now())
    send_alerts(context, NAME)
    assert hook.said == []

    context.settings.linked_alerts = hook.settings()
    send_alerts(context, NAME)
    assert headline(ALERT).startswith("[page]")
    assert "[notice] taxi_tip: a retrain is called for: drift" in hook.said[0]


def test_what_happened_over_a_day_ago_is_not_told(context: Any, tmp_path: Path) -> None:
    old = Ledger(f"sqlite:///{tmp_path / 'old.db'}", ManualClock(datetime(2019, 2, 5, tzinfo=UTC)))
    old.migrate()
    context.ledger.close()
    context.ledger = old
    look(context, FAULT)

    assert context.emitted == []


def test_a_ledger_that_is_away_fails_no_flow(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    context.ledger.close()
    context.ledger = SimpleNamespace(acquire=lambda *_: 1 / 0)

    send_alerts(context, NAME)

    assert "alerts could not be sent" in caplog.text
