"""``evergreen test`` says which tests a model passes, by its exit code too."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from core.discovery import discover
from core.settings import load_settings
from features.offline.log import OfflineLog
from features.tables import TableAccess
from monitoring.replay.asked import ask_all
from monitoring.replay.importing import import_events
from registry.candidate import build_candidate
from registry.version_folder import write_version_folder
from registry.versions import MemoryRegistry
from stack import cli
from tests.replayed_use_case import START, history, log_questions

FILE = """
from dataclasses import replace

from core.model_tests import Direction, Minimum
from tests.replayed_use_case import POLICY, history, logistic
from tests.sample_use_case import sample_use_case

use_case = replace(
    sample_use_case("replayed"), estimator=logistic, policy=POLICY, history=lambda folder: history(days=40, turn=None),
    tests=(Direction(field="amount", by=0.5, expect="up"), Minimum(metric="auc", value={least})),
)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of use cases, and a home, of this test's own."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def evergreen_test(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["evergreen", "test", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_a_model_of_the_history_is_tested_without_a_stack(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "replayed.py").write_text(FILE.format(least=0.7))
    assert evergreen_test(monkeypatch, "replayed") == 0
    said = capsys.readouterr().out
    assert "amount +0.5: up" in said and "No required test of 5 failed." in said

    (models / "replayed.py").write_text(FILE.format(least=0.999))
    assert evergreen_test(monkeypatch, "replayed", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["version"]) == (False, None)
    assert [each["name"] for each in found["tests"] if not each["passed"]] == ["auc ≥ 0.999"]


def test_a_registered_version_is_tested_on_what_was_labelled_when_it_was_trained(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (models / "replayed.py").write_text(FILE.format(least=0.7))
    declared, settings, past = discover(models)["replayed"], load_settings(), history(days=40, turn=None)
    log, moment = OfflineLog(settings.offline_dir), START + timedelta(days=30)
    import_events(log, past)
    log_questions(log, declared.use_case, past)
    asked = ask_all(declared.use_case, past, TableAccess(tmp_path, {}))
    rows = asked.training_rows(moment - declared.use_case.policy.training_window, moment)
    candidate = build_candidate(declared, asked.training_set(rows))
    registry = MemoryRegistry(tmp_path / "registry")
    info = write_version_folder(candidate, tmp_path / "version", reason="r", as_of=moment)
    registry.set_alias("replayed", "champion", registry.register("replayed", tmp_path / "version", info))
    monkeypatch.setattr("registry.mlflow_registry.MlflowRegistry", lambda url: registry)

    assert evergreen_test(monkeypatch, "replayed", "champion") == 0
    assert "version 1, tested on the 150 newest rows" in capsys.readouterr().out
    assert evergreen_test(monkeypatch, "replayed", "canary") == 1
    assert "has no alias 'canary'" in capsys.readouterr().err
