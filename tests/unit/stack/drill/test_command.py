from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.ledger import Ledger
from stack import cli
from tests.torchserve_process import use_case_file

AS_OF = datetime(2019, 2, 2, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    for folder in ("models", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "models" / "toy.py").write_text(use_case_file())
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MODELS_DIR", str(tmp_path / "models"))
    with closing(Ledger(f"sqlite:///{tmp_path / 'home' / 'ledger.db'}")) as ledger:
        ledger.migrate()
        yield ledger


def evergreen(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evergreen", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_what_cannot_be_drilled_is_said_with_a_remedy(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("drill", "--yes") == 1
    assert "evergreen retrain USE_CASE" in capsys.readouterr().err
    ledger.deploy("toy", expected_generation=0, version="1", previous=None, actor="deployer", reason="", as_of=AS_OF)
    assert evergreen("drill", "toy", "--yes") == 1
    assert "is not up. Run: evergreen up" in capsys.readouterr().err
    assert not ledger.entries("toy")


def test_a_rehearsal_nobody_knows_is_wrong_usage(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("drill", "--only", "flood") == 2
    assert "bad-artifact" in capsys.readouterr().err


def test_nothing_is_done_unless_it_is_confirmed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.deploy("toy", expected_generation=0, version="1", previous=None, actor="deployer", reason="", as_of=AS_OF)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert evergreen("drill", "toy", "--only", "rollback") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "on toy: rollback." in said and "is not up" not in said
