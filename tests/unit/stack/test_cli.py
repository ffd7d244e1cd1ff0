from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from core.decision import Decision
from core.discovery import discover
from core.errors import DependencyDown, DeploymentError
from core.ledger import Ledger
from core.policy import Policy
from monitoring.alerts import Alert
from monitoring.facts import ColumnDrift, DriftFacts, EstimateFacts, Fault, Interval, MonitorFacts, PerformanceFacts
from monitoring.triggers import decide_retrain
from stack import cli

ROOT = Path(__file__).resolve().parents[3]
AS_OF = datetime(2019, 2, 2, tzinfo=UTC)
COMMANDS = (
    "up", "down", "status", "doctor", "check", "retrain", "promote", "rollback", "history", "demo", "canary", "shadow",
    "compare", "export", "replay", "explain", "approve", "drill", "test",
)  # fmt: skip


class Registry:
    """Stands for MLflow: three versions and an alias."""

    moved: tuple[str, str, str] | None = None
    is_away = False

    def __init__(self, url: str) -> None:
        self.url = url

    def info(self, use_case: str, version: str) -> None:
        if version not in ("1", "2", "3"):
            raise DeploymentError(f"{use_case} has no version {version}.")

    def set_alias(self, use_case: str, name: str, version: str) -> None:
        self.info(use_case, version)
        if Registry.is_away:
            raise DependencyDown("MLflow", "connection refused")
        Registry.moved = (use_case, name, version)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MODELS_DIR", str(ROOT / "models"))
    monkeypatch.setattr("registry.mlflow_registry.MlflowRegistry", Registry)
    Registry.moved, Registry.is_away = None, False
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    home.mkdir()
    with closing(Ledger(f"sqlite:///{home / 'ledger.db'}")) as ledger:
        ledger.migrate()
        yield ledger


def evergreen(*arguments: str) -> int:
    """Run one command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evergreen", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def passed(ledger: Ledger, version: str) -> None:
    better = Decision("promote", "0.010 nats better")
    ledger.record("taxi_tip", "gate", better, actor="flow retrain", as_of=AS_OF, version=version)


def deploy(ledger: Ledger, *versions: str) -> None:
    for generation, version in enumerate(versions):
        previous = versions[generation - 1] if generation else None
        ledger.deploy(
            "taxi_tip", expected_generation=generation, version=version, previous=previous,
            actor="deployer", reason="alias", as_of=AS_OF,
        )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen(command, "--help") == 0
    assert f"Usage: evergreen {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ("rebuild", "audit", "show", "compact"))
def test_every_command_of_the_features_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("features", command, "--help") == 0
    assert f"Usage: evergreen features {command}" in capsys.readouterr().out


def test_the_command_line_itself_loads_nothing_heavy() -> None:
    heavy = "{'mlflow','prefect','torch','evidently','pandas','numpy','sqlalchemy','redis','sklearn','psutil'}"
    code = f"import sys, stack.cli; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_wrong_usage_is_2() -> None:
    assert evergreen("nonesuch") == 2
    assert evergreen("history", "taxi_tip", "--limit", "0") == 2
    assert evergreen("check", "taxi_tip", "--all") == 2


def test_a_malformed_setting_is_2_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_REDIS__PORT", "many")
    assert evergreen("status") == 2
    said = capsys.readouterr().err
    assert said.startswith("EVERGREEN_REDIS__PORT: ")
    assert said.count("\n") == 1


def test_an_unknown_use_case_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("history", "nonesuch") == 1
    assert "taxi_tip" in capsys.readouterr().err


def test_status_tells_that_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("status", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["stack"] == "down"
    assert {process["state"] for process in found["processes"].values()} == {"not started"}
    assert set(found["use_cases"]) == set(discover(ROOT / "models"))
    assert found["freshness"] is None
    assert evergreen("status") == 1
    assert "is down" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("show", "nonesuch", "pickup_zone=161"), "taxi_tip"),
        (("show", "taxi_tip", "zone=161"), "pickup_zone=161, dropoff_zone=236"),
        (("show", "taxi_tip", "161"), "pickup_zone"),
        (("show", "taxi_tip", "pickup_zone=JFK"), "must be a whole number, got 'JFK'"),
        (("show", "taxi_tip"), "entity"),
        (("audit", "nonesuch"), "taxi_tip"),
        (("audit", "taxi_tip", "--rows", "0"), "--rows"),
        (("audit", "taxi_tip", "--since", "yesterday"), "ISO 8601"),
    ],
)
def test_wrong_usage_of_the_features_is_2_and_names_what_is_known(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen("features", *arguments) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert not said.out


def test_features_cannot_be_shown_while_redis_is_away(
    monkeypatch: pytest.MonkeyPatch, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_REDIS__PORT", str(port))
    for arguments in (("show", "taxi_tip", "pickup_zone=161"), ("rebuild",)):
        assert evergreen("features", *arguments) == 1
        assert "Redis does not answer" in capsys.readouterr().err


def test_skew_that_was_found_is_a_problem_of_the_status(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for action, reason in (("alarm", "old news"), ("pass", "all agree")):
        ledger.record("taxi_tip", "audit", Decision(action, reason), actor="flow monitor", as_of=AS_OF)
    evergreen("status", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["use_cases"]["taxi_tip"]["audit"]["reason"] == "all agree"
    assert [entry["reason"] for entry in found["use_cases"]["taxi_tip"]["last_decisions"]] == ["old news"]
    assert not any("old news" in problem for problem in found["problems"])
    evidence = {"rows": 200, "features": {"fare": {"mismatches": 3, "largest_difference": 0.5}}}
    ledger.record("taxi_tip", "audit", Decision("alarm", "fare in 3", evidence), actor="flow monitor", as_of=AS_OF)
    evergreen("status", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["problems"][-1] == "taxi_tip: fare in 3"
    assert found["use_cases"]["taxi_tip"]["audit"]["evidence"] == evidence
    assert evergreen("status") == 1
    assert "Problem: taxi_tip: fare in 3" in capsys.readouterr().out


def looked_at(**more: Any) -> Decision:
    """A look that found the version worse than it was, and its inputs moved."""
    seen = PerformanceFacts(
        rows=812, coverage=0.9, log_loss=Interval(value=0.5, low=0.46, high=0.54), auc=None, brier=None, base_rate=0.3,
        from_at=AS_OF, to_at=AS_OF,
    )  # fmt: skip
    over = (ColumnDrift(column="fare", kind="data", effect=0.4, threshold=0.1),)
    facts = MonitorFacts(
        as_of=AS_OF, version="2", trained_at=AS_OF, last_retrain_at=None, rows=900, reference_log_loss=0.41,
        performance=seen, drift=DriftFacts(rows=900, columns=30, over=over, called=("data",)),
    ).with_(**more)  # fmt: skip
    return decide_retrain(facts, Policy())


def test_status_says_how_a_use_case_does(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    loss = Interval(value=0.6, low=0.5, high=0.7)
    blind = EstimateFacts(method="confidence", rows=88, log_loss=loss, blind="concept drift is called")
    decided = looked_at(estimate=blind)
    ledger.record("taxi_tip", "trigger", decided, actor="flow monitor", as_of=AS_OF, version="2")
    waits = Decision("wait", "neither shown worse nor no worse")
    ledger.record("taxi_tip", "aftermath", waits, actor="flow monitor", as_of=AS_OF, version="2")
    for kind, detail in (("unit", "fare 100 times as large"), ("nulls", "a third is null")):
        alert = Alert(
            use_case="taxi_tip", cause=f"look/fault/{kind}/fare", severity="page", title=f"{kind} in fare",
            reason=detail, decision_id=1, command="evergreen explain 1", lasts=True,
        )  # fmt: skip
        raised = Decision("raise", "told", {"alert": alert.as_json(), "delivered": {}})
        ledger.record("taxi_tip", "alert", raised, actor="alerts", as_of=AS_OF)
    over = Decision("end", "it is over", {"cause": "look/fault/nulls/fare"})
    ledger.record("taxi_tip", "alert", over, actor="alerts", as_of=AS_OF)

    evergreen("status", "--json")

    found = json.loads(capsys.readouterr().out)["use_cases"]["taxi_tip"]
    assert (found["drift"]["called"], found["drift"]["over"][0]["column"]) == (["data"], "fare")
    assert found["performance"] == {
        "log_loss": {"value": 0.5, "low": 0.46, "high": 0.54}, "auc": None, "reference_log_loss": 0.41, "rows": 812,
        "coverage": 0.9,
    }  # fmt: skip
    assert (found["estimate"]["blind"], found["estimate"]["log_loss"]["high"]) == ("concept drift is called", 0.7)
    assert (found["faults"], found["aftermath"]["action"]) == ([], "wait")
    assert [alert["cause"] for alert in found["alerts"]] == ["look/fault/unit/fare"]
    assert "aftermath" not in [entry["kind"] for entry in found["last_decisions"]]
    evergreen("status")
    shown = " ".join(capsys.readouterr().out.split())
    assert "0.5000 (0.4600 to 0.5400) of 812" in shown
    assert "blind data: fare" in shown
    assert "Alert for taxi_tip: unit in fare. evergreen explain 1" in shown


def test_status_names_the_faults_of_the_data(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    fault = Fault(column="fare", kind="unit", detail="fare is 100 times as large")
    ledger.record("taxi_tip", "trigger", looked_at(faults=(fault,)), actor="flow monitor", as_of=AS_OF, version="2")
    evergreen("status")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Fault in taxi_tip: fare is 100 times as large" in shown
    assert "alarm: the data are at fault" in shown


def test_status_shows_the_ledger(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(ledger, "1", "2")
    ledger.record(
        "taxi_tip", "trigger", Decision("wait", "all quiet", {"log_loss": 0.5}), actor="flow monitor", as_of=AS_OF
    )
    evergreen("status", "--json")
    taxi_tip = json.loads(capsys.readouterr().out)["use_cases"]["taxi_tip"]
    assert (taxi_tip["champion"], taxi_tip["generation"]) == ("2", 2)
    assert taxi_tip["monitor"]["evidence"] == {"log_loss": 0.5}
    assert (taxi_tip["performance"], taxi_tip["drift"]) == (None, None), "a look of an older release"
    assert taxi_tip["last_decisions"][0]["reason"] == "all quiet"


def test_down_is_fine_when_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("down") == 0
    assert "was not up" in capsys.readouterr().out


def test_history_is_shown_newest_first(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for reason in ("first", "second"):
        ledger.record("taxi_tip", "gate", Decision("promote", reason), actor="flow retrain", as_of=AS_OF, version="1")
    assert evergreen("history", "taxi_tip", "--json") == 0
    assert [entry["reason"] for entry in json.loads(capsys.readouterr().out)] == ["second", "first"]
    assert evergreen("history", "taxi_tip") == 0
    assert "flow retrain" in capsys.readouterr().out


def test_what_answered_at_a_moment_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    clock = ManualClock(datetime(2026, 11, 1, tzinfo=UTC))
    with closing(Ledger(f"sqlite:///{home / 'ledger.db'}", clock)) as ledger:
        ledger.migrate()
        for generation, (version, day) in enumerate((("1", 1), ("2", 3), ("1", 5))):
            ledger.deploy(
                "taxi_tip", expected_generation=generation, version=version, previous=None, actor="ops (evergreen)",
                reason="champion moved", as_of=datetime(2019, 2, day, tzinfo=UTC),
                evidence={"clock": "event", "asked": "better on shops"},
            )  # fmt: skip
            clock.advance(timedelta(hours=1))
        ledger.deploy(
            "taxi_tip", expected_generation=3, version="3", previous="1", actor="MLflow", reason="champion moved",
            as_of=datetime(2019, 2, 1, tzinfo=UTC),
        )  # fmt: skip
    assert evergreen("history", "taxi_tip", "--at", "2019-02-03T10:00Z") == 0
    said = capsys.readouterr().out
    assert "Version 2 of taxi_tip answered at 2019-02-03 10:00:00 UTC: generation 2, since 2019-02-03" in said
    assert "by ops (evergreen): champion moved (better on shops)" in said
    for moment, version in (("2019-02-06", "1"), ("2026-11-01T02:59Z", "1"), ("2026-11-01T04:00+01:00", "3")):
        assert evergreen("history", "taxi_tip", "--at", moment, "--json") == 0
        assert json.loads(capsys.readouterr().out)["version"] == version
    assert evergreen("history", "taxi_tip", "--at", "2019-01-31T23:59Z") == 1
    assert "Nothing answered" in capsys.readouterr().out
    assert evergreen("history", "taxi_tip", "--at", "yesterday") == 2


def test_promote_moves_the_alias_and_is_recorded(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    passed(ledger, "2")
    assert evergreen("promote", "taxi_tip", "2", "--reason", "looks better", "--no-wait") == 0
    assert Registry.moved == ("taxi_tip", "champion", "2")
    moved, entry = ledger.entries("taxi_tip", kind="promotion")
    assert (entry.action, entry.reason, entry.version, moved.action) == ("promote", "looks better", "2", "moved")


def test_a_version_without_a_passed_gate_has_to_be_forced(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("promote", "taxi_tip", "2", "--no-wait") == 1
    assert Registry.moved is None and "has passed no gate" in capsys.readouterr().err
    assert evergreen("promote", "taxi_tip", "2", "--no-wait", "--force") == 2
    assert evergreen("promote", "taxi_tip", "2", "--no-wait", "--force", "--reason", "labels are late") == 0
    assert Registry.moved == ("taxi_tip", "champion", "2")
    assert ledger.entries("taxi_tip", kind="promotion", actions=("force",))[0].reason == "labels are late"


def test_promote_waits_for_another_person_where_two_have_to(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERGREEN_PROMOTION__SECOND_PERSON", "true")
    passed(ledger, "2")
    assert evergreen("promote", "taxi_tip", "2") == 1
    assert "another person must approve: evergreen approve taxi_tip 2" in capsys.readouterr().out
    assert evergreen("approve", "taxi_tip", "2", "--no-wait") == 1
    assert "cannot approve it as well" in capsys.readouterr().err
    monkeypatch.setattr("getpass.getuser", lambda: "somebody else")
    assert evergreen("approve", "taxi_tip", "2", "--reason", "read the card", "--no-wait") == 0


def test_what_is_asked_while_mlflow_is_away_is_kept(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    passed(ledger, "2")
    Registry.is_away = True
    assert evergreen("promote", "taxi_tip", "2", "--no-wait") == 0
    assert "The request is kept" in capsys.readouterr().out
    (entry,) = ledger.entries("taxi_tip", kind="promotion")
    assert (entry.action, entry.evidence["pending"]) == ("promote", True)


def test_promote_waits_until_the_version_answers(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(ledger, "1", "2")
    passed(ledger, "2")
    assert evergreen("promote", "taxi_tip", "2") == 0
    assert "answers now (generation 2)" in capsys.readouterr().out


def test_promote_says_when_the_deployer_does_not_follow(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    passed(ledger, "2")
    assert evergreen("promote", "taxi_tip", "2", "--within-s", "1") == 1
    assert "does not answer after 1 s. Is the deployer running?" in capsys.readouterr().err


def test_a_version_that_is_not_there_is_not_promoted(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    passed(ledger, "9")
    assert evergreen("promote", "taxi_tip", "9") == 1
    assert Registry.moved is None
    assert [entry.action for entry in ledger.entries("taxi_tip", kind="promotion")] == ["keep", "promote"]
    assert "has no version 9" in capsys.readouterr().err


def test_rollback_returns_to_the_version_before(ledger: Ledger) -> None:
    deploy(ledger, "1", "3")
    assert evergreen("rollback", "taxi_tip", "--no-wait") == 0
    assert Registry.moved == ("taxi_tip", "champion", "1")
    moved, asked = ledger.entries("taxi_tip", kind="promotion")
    assert (asked.action, asked.evidence["from"], moved.action, moved.version) == ("rollback", "3", "moved", "1")


def test_rollback_does_not_return_to_what_was_taken_back(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(ledger, "1", "3", "1")
    taken = Decision("rollback", "champion 3 is taken back: 10 % failed", {"role": "champion"})
    ledger.record("taxi_tip", "deployment", taken, actor="deployer", as_of=AS_OF, version="3")
    assert evergreen("rollback", "taxi_tip") == 1
    assert Registry.moved is None
    said = capsys.readouterr().err
    assert "3, was itself taken back: champion 3 is taken back: 10 % failed" in said


def test_rollback_without_an_earlier_version_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("rollback", "taxi_tip") == 1
    assert "no earlier version" in capsys.readouterr().err


def test_status_says_what_is_held_and_what_is_gone(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    deploy(ledger, "1", "2")
    for kind, action, version in (("promotion", "hold", "3"), ("deployment", "orphan", "2")):
        told = Decision(action, f"{action} of {version}", {"generation": 2})
        ledger.record("taxi_tip", kind, told, actor="deployer", as_of=AS_OF, version=version)
    evergreen("status", "--json")
    split = json.loads(capsys.readouterr().out)["use_cases"]["taxi_tip"]["split"]
    assert (split["held"]["version"], split["held"]["action"], split["orphan"]) == ("3", "hold", True)
    evergreen("status")
    said = capsys.readouterr().out
    assert "Held for taxi_tip: version 3 waits: hold of 3" in said
    assert "version 2 of taxi_tip answers, and was deleted in MLflow" in said
    ledger.record("taxi_tip", "promotion", Decision("withdraw", "gone"), actor="deployer", as_of=AS_OF, version="3")
    evergreen("status")
    assert "Held for" not in capsys.readouterr().out


def test_a_delivery_is_explained_stage_by_stage(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    stage = {"name": "scan", "status": "failed", "started_at": "2026-01-01", "seconds": 0.04, "says": "a pickle"}
    known = {"stages": [stage], "decision_id": "1", "remedy": "evergreen retrain taxi_tip"}
    entry_id = ledger.record(
        "taxi_tip", "delivery", Decision("failed", "scan: a pickle", known), actor="flow retrain", as_of=AS_OF
    )  # fmt: skip

    assert evergreen("explain", str(entry_id)) == 0

    said = capsys.readouterr().out
    assert "scan         failed      0.04 s  a pickle" in said
    assert "remedy: evergreen retrain taxi_tip" in said and "stages[" not in said
