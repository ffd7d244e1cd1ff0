"""A real server plays GitHub: what it takes is signed, what it refuses becomes an alert, nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from core.clock import ManualClock, SystemClock
from core.decision import Decision
from core.dispatch import Dispatch, DispatchRefused, read_dispatch
from core.errors import DependencyDown, SettingsError
from core.ledger import Ledger
from core.settings import GithubSettings, Settings
from flows import dispatched, monitor
from flows.dispatching import KIND, dispatch, send_dispatches
from flows.steps import delivered_before
from monitoring.alerts import event_alerts
from tests.loopback import answering

NAME, SECRET = "taxi_tip", b"a shared secret of many bytes"
AS_OF = datetime(2019, 2, 5, tzinfo=UTC)
CALLED = Dispatch(NAME, AS_OF.isoformat(), "drift: fare moved", "7")


class Github(ThreadingHTTPServer):
    """GitHub's API as far as dispatches go: keeps what it is told, and answers with the next of `statuses`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.statuses: list[int] = []
        self.told: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    def settings(self, **others: Any) -> GithubSettings:
        given = {"repository": "acme/models", "token": SecretStr("t0ken"), "secret": SecretStr(SECRET.decode())}
        url = f"http://127.0.0.1:{self.server_port}"
        return GithubSettings(**{**given, "api_url": url, "wait_s": 0, "timeout_s": 5, **others})


class _Post(BaseHTTPRequestHandler):
    server: Github

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append(dict(self.headers))
        self.server.paths.append(self.path)
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[Github]:
    with answering(Github(), monkeypatch) as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture
def context(ledger: Ledger, github: Github) -> Any:
    return SimpleNamespace(ledger=ledger, settings=SimpleNamespace(github=github.settings()))


def called_for(ledger: Ledger, actor: str = "flow monitor") -> int:
    decision = Decision("retrain", "fare moved", {"trigger": "drift"})
    return ledger.record(NAME, "trigger", decision, actor=actor, as_of=AS_OF)


def dispatches(ledger: Ledger) -> list[str]:
    return [entry.action for entry in reversed(ledger.entries(NAME, kind=KIND))]


def test_github_is_asked_as_its_api_wants_it(github: Github) -> None:
    assert dispatch(github.settings(), CALLED) == 1

    assert github.paths == ["/repos/acme/models/dispatches"]
    assert github.headers[0]["Authorization"] == "Bearer t0ken"
    assert github.headers[0]["Accept"] == "application/vnd.github+json"
    (body,) = github.told
    assert body["event_type"] == "evergreen-retrain" and len(body["client_payload"]) <= 10
    assert read_dispatch(body["client_payload"], SECRET) == CALLED


def test_what_may_pass_is_tried_again_within_the_budget(github: Github) -> None:
    github.statuses = [502, 429, 204]
    assert dispatch(github.settings(), CALLED) == 3

    github.statuses = [503] * 10
    with pytest.raises(DependencyDown, match="GitHub does not answer: HTTP 503, 2 times"):
        dispatch(github.settings(attempts=2), CALLED)
    assert len(github.told) == 5


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_what_github_refuses_for_good_is_not_tried_again(github: Github, status: int) -> None:
    github.statuses = [status]
    with pytest.raises(SettingsError, match=rf"HTTP {status}.*EVERGREEN_GITHUB__TOKEN") as refused:
        dispatch(github.settings(), CALLED)
    assert len(github.told) == 1 and "t0ken" not in str(refused.value)


def test_nobody_there_is_an_error(github: Github) -> None:
    with pytest.raises(DependencyDown, match="GitHub does not answer: ConnectError"):
        dispatch(github.settings(api_url="http://127.0.0.1:9", attempts=1), CALLED)


def test_each_decision_is_sent_once(context: Any, github: Github) -> None:
    first = called_for(context.ledger)
    called_for(context.ledger, actor="by hand")  # its retrain runs already

    send_dispatches(context, NAME)
    send_dispatches(context, NAME)

    assert [body["client_payload"]["decision_id"] for body in github.told] == [str(first)]
    assert github.told[0]["client_payload"]["reason"] == "drift: fare moved"
    assert dispatches(context.ledger) == ["sent"]


def test_what_did_not_get_through_is_an_alert_and_is_sent_at_the_next_look(context: Any, github: Github) -> None:
    called_for(context.ledger)
    github.statuses = [500] * 3

    send_dispatches(context, NAME)

    (alert,) = [each for each in event_alerts(context.ledger.entries(NAME)) if each.cause == "dispatch failed"]
    assert alert.severity == "page" and "HTTP 500, 3 times" in alert.reason
    assert alert.command == "evergreen retrain taxi_tip"
    send_dispatches(context, NAME)
    assert dispatches(context.ledger) == ["failed", "sent"]


def test_old_decisions_are_not_dug_out(github: Github, tmp_path: Path) -> None:
    with closing(
        Ledger(f"sqlite:///{tmp_path / 'old.db'}", ManualClock(SystemClock().now() - timedelta(days=2)))
    ) as old:
        old.migrate()
        called_for(old)
        send_dispatches(SimpleNamespace(ledger=old, settings=SimpleNamespace(github=github.settings())), NAME)
    assert github.told == []


@pytest.mark.parametrize(("instead", "events"), [(True, 0), (False, 1)])
def test_prefect_is_told_besides_if_that_is_set(
    context: Any, github: Github, monkeypatch: pytest.MonkeyPatch, instead: bool, events: int
) -> None:
    emitted: list[Any] = []
    monkeypatch.setattr(monitor, "emit_event", lambda *_, **what: emitted.append(what))
    context.settings.github = github.settings(instead=instead)

    monitor.request_retrain(context, NAME, AS_OF, Decision("retrain", "fare moved", {"trigger": "drift"}), 7)

    assert len(emitted) == events
    assert all(each["payload"]["reason"] == "drift: fare moved" for each in emitted)


def test_a_repository_needs_a_token_and_a_secret() -> None:
    with pytest.raises(ValidationError, match="needs __TOKEN"):
        GithubSettings(repository="acme/models", secret=SecretStr("x" * 16))
    with pytest.raises(ValidationError, match="SECRET of 16 characters"):
        GithubSettings(repository="acme/models", token=SecretStr("t"), secret=SecretStr("short"))


PAYLOAD = CALLED.signed(SECRET)


@pytest.mark.parametrize(
    ("payload", "secret", "why"),
    [
        ({**PAYLOAD, "use_case": "ad_click"}, SECRET, "signature does not fit"),
        ({**PAYLOAD, "decision_id": "8"}, SECRET, "signature does not fit"),
        ({**PAYLOAD, "use_case": NAME + "2", "as_of": PAYLOAD["as_of"][1:]}, SECRET, "signature does not fit"),
        ({**PAYLOAD, "signature": "v1=00"}, SECRET, "signature does not fit"),
        (PAYLOAD, b"another secret of many bytes", "signature does not fit"),
        (PAYLOAD, b"", "EVERGREEN_GITHUB__SECRET"),
        ({**PAYLOAD, "more": "x"}, SECRET, "its fields are"),
        ({k: v for k, v in PAYLOAD.items() if k != "signature"}, SECRET, "its fields are"),
        ({**PAYLOAD, "decision_id": 7}, SECRET, "no texts"),
        ({**PAYLOAD, "reason": "x" * 4001}, SECRET, "no texts"),
    ],
)
def test_what_was_made_up_or_changed_is_refused(payload: dict[str, Any], secret: bytes, why: str) -> None:
    with pytest.raises(DispatchRefused, match=why):
        read_dispatch(payload, secret)


@pytest.mark.parametrize(
    ("payload", "code"), [(json.dumps(PAYLOAD), 0), (json.dumps({**PAYLOAD, "as_of": "now"}), 1), ("", 1), ("[]", 1)]
)
def test_the_workflows_check_answers_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], payload: str, code: int
) -> None:
    monkeypatch.setenv("EVERGREEN_GITHUB__SECRET", SECRET.decode())
    (tmp_path / "payload.json").write_text(payload)

    assert dispatched.main(["verify", str(tmp_path / "payload.json")]) == code

    said = capsys.readouterr()
    assert ("decision 7" in said.out) is (code == 0) and ("refused" in said.err) is (code == 1)
    assert dispatched.main(["verify"]) == dispatched.USAGE


def test_a_dispatch_whose_decision_nobody_made_is_refused(ledger: Ledger) -> None:
    made = str(called_for(ledger))
    dispatched.require_called_for(ledger, replace(CALLED, decision_id=made))
    for wrong, why in (
        (replace(CALLED, decision_id="99"), "no decision 99"),
        (replace(CALLED, decision_id="1; rm"), "no decision"),
        (replace(CALLED, decision_id=made, use_case="ad_click"), "is of taxi_tip"),
        (replace(CALLED, decision_id=made, as_of="2019-02-06T00:00:00+00:00"), "is of taxi_tip as of 2019-02-05"),
    ):
        with pytest.raises(DispatchRefused, match=why):
            dispatched.require_called_for(ledger, wrong)


def test_a_dispatch_that_is_refused_retrains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow would need Prefect, which is not there: it is not reached."""
    settings = Settings(home=tmp_path, github={"secret": SECRET.decode()})
    with pytest.raises(DispatchRefused, match="no decision 7"):
        dispatched.retrain_dispatched(settings, CALLED)


def test_a_decision_that_was_delivered_is_known(context: Any) -> None:
    for action, decision_id in (("failed", "7"), ("done", "8")):
        known = {"decision_id": decision_id, "stages": []}
        context.ledger.record(NAME, "delivery", Decision(action, "x", known), actor="t", as_of=AS_OF)
    assert not delivered_before(context, NAME, "7"), "what failed may be tried again"
    assert delivered_before(context, NAME, "8")
