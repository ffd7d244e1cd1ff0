"""The commands that try policies on the past, and that make a decision again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.decision import Decision
from core.discovery import load_use_case
from core.ledger import Ledger
from core.policy import Policy
from core.triggers import Schedule
from monitoring.facts import MonitorFacts
from monitoring.replay.outcome import Comparison
from monitoring.triggers import decide_retrain
from stack import cli
from tests.unit.monitoring.replay.test_page import FOUND

ROOT = Path(__file__).resolve().parents[3]
AS_OF = datetime(2019, 2, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "taxi_tip.py").write_text((ROOT / "models" / "taxi_tip.py").read_text())
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "home").mkdir()
    with closing(Ledger(f"sqlite:///{tmp_path / 'home' / 'ledger.db'}")) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stands for the flow, which takes minutes; what it was asked for."""
    specs: list[Any] = []

    def run_replay(spec: Any, settings: Any, show: Any) -> Comparison:
        specs.append(spec)
        show("drift", 1, 2)
        return replace(FOUND, use_case="taxi_tip")

    monkeypatch.setattr("flows.replay.run_replay", run_replay)
    return specs


def evergreen(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evergreen", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_a_replay_is_asked_for_in_plain_words(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--policies", "drift, always", "--from", "2018-06-01", "--to", "2019-01-01", "--every-days", "3.5")

    assert evergreen("replay", "taxi_tip", *arguments) == 0

    (spec,) = asked
    assert (spec.use_case, spec.policies) == ("taxi_tip", ("drift", "always"))
    assert (spec.since, spec.until) == (datetime(2018, 6, 1, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC))
    assert spec.every == timedelta(days=3.5)
    said = capsys.readouterr().out
    assert "Recommended: it is the cheapest." in said
    assert "1,234 labelled predictions" in said


def test_the_recommended_trigger_is_written_and_counts(
    asked: list[Any], models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"

    assert evergreen("replay", "taxi_tip", "--write", "--html", str(page), "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert found["written"] == str(models / "taxi_tip.policy.json")
    assert page.read_text().startswith("<!doctype html>")
    assert load_use_case(models / "taxi_tip.py").use_case.policy.trigger == FOUND.policies["drift"].trigger


def test_nothing_is_written_if_nothing_is_recommended(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.replay.run_replay", lambda *_: replace(FOUND, recommended=None, why="no always"))

    assert evergreen("replay", "taxi_tip", "--write") == 1

    assert "None is recommended: no always." in capsys.readouterr().out
    assert [path.name for path in models.iterdir() if path.suffix == ".json"] == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("nonesuch",), 1), (("taxi_tip", "--policies", ","), 2), (("taxi_tip", "--from", "soon"), 2),
     (("taxi_tip", "--every-days", "0"), 2)],
)  # fmt: skip
def test_wrong_usage_is_told(arguments: tuple[str, ...], code: int, asked: list[Any]) -> None:
    assert evergreen("replay", *arguments) == code
    assert asked == []


def recorded(ledger: Ledger, reason: str | None = None) -> int:
    facts = MonitorFacts(
        as_of=AS_OF, version="3", trained_at=AS_OF - timedelta(days=40), last_retrain_at=None, rows=900
    )
    decision = decide_retrain(facts, Policy(trigger=Schedule(timedelta(days=30))))
    decision = replace(decision, reason=reason or decision.reason)
    return ledger.record("taxi_tip", "trigger", decision, actor="flow monitor", as_of=AS_OF, version="3")


def test_a_decision_is_explained_and_made_again(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    decision_id = recorded(ledger)

    assert evergreen("explain", str(decision_id)) == 0

    said = capsys.readouterr().out
    assert "yes  schedule: the last training was called for 40 days ago; one is due every 30 days" in said
    assert "facts.rows: 900" in said
    assert "Recomputed from this: retrain, for the same reason." in said


def test_a_decision_that_comes_out_otherwise_is_1(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    decision_id = recorded(ledger, "because")

    assert evergreen("explain", str(decision_id), "--json") == 1

    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["again"]["action"], found["id"]) == (False, "retrain", decision_id)


@pytest.mark.parametrize(
    ("kind", "decision", "why"),
    [
        ("promotion", Decision("promote", "by hand"), "records what somebody did"),
        ("gate", Decision("promote", "better", {"gain": 0.1}), "recorded by another release"),
        ("trigger", Decision("wait", "x", {"facts": {}, "policy": {}}), "recorded by another release"),
    ],
)
def test_what_cannot_be_made_again_is_said(
    ledger: Ledger, kind: str, decision: Decision, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    decision_id = ledger.record("taxi_tip", kind, decision, actor="ann", as_of=AS_OF)

    assert evergreen("explain", str(decision_id)) == 0
    assert why in capsys.readouterr().out


def test_an_unknown_decision_is_1(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("explain", "99") == 1
    assert "no decision 99" in capsys.readouterr().err


def test_history_gives_the_ids_to_explain(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    decision_id = recorded(ledger)

    assert evergreen("history", "taxi_tip", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == decision_id
