"""`evergreen new` as a person runs it: from a file to a trained candidate, with and without a terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.discovery import discover, load_use_case
from core.errors import EvergreenError
from registry.scorer import OnnxScorer
from stack.cli import app
from stack.commands import new_questions
from stack.scaffold.declaration import Choices
from stack.scaffold.trial import try_out
from tests.tables import orders


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("models", "data"):
        monkeypatch.setenv(f"EVERGREEN_{folder.upper()}_DIR", str(tmp_path / folder))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    return tmp_path


def test_from_a_file_to_a_trained_candidate(project: Path) -> None:
    table = project / "orders 2024.csv.gz"
    orders(2000).to_csv(table, index=False)
    done = CliRunner().invoke(app, ["new", "returns", "--from", str(table), "--yes"])
    assert done.exit_code == 0, done.output
    assert "evergreen demo --use-case returns --keep" in done.output
    assert (project / "data" / "returns" / "orders 2024.csv.gz").read_bytes() == table.read_bytes()
    assert list(discover(project / "models")) == ["returns"]
    loaded = load_use_case(project / "models" / "returns.py")
    trial = try_out(loaded, loaded.use_case.history(project / "data"))
    assert f"log-loss {trial.log_loss:.4f}, base rate {trial.base_rate_log_loss:.4f}" in done.output
    assert trial.gain > 0.05
    columns = trial.candidate.columns
    assert {"hour", "price", "pieces", "shop_code"} < set(columns)
    assert any(column.startswith("shop_past_rate_") for column in columns)
    rows = np.zeros((2, len(columns)), np.float32)
    rows[:, columns.index("price")] = 5, 200
    cheap, dear = OnnxScorer(trial.candidate.onnx).score(rows)
    assert dear > cheap + 0.2


def test_a_refusal_leaves_nothing_behind(project: Path) -> None:
    table = project / "orders.parquet"
    orders().drop(columns="ordered_at").to_parquet(table)
    done = CliRunner().invoke(app, ["new", "returns", "--from", str(table), "--yes"])
    assert isinstance(done.exception, EvergreenError) and "--start" in str(done.exception)
    assert not (project / "models").exists() and not (project / "data").exists()
    done = CliRunner().invoke(app, ["new", "returns", "--from", str(table), "--yes", "--start", "soon", "--step", "1h"])
    assert done.exit_code == 2 and "--start soon" in done.output
    done = CliRunner().invoke(app, ["new", "returns", "--from", str(table), "--yes", "--horizon", "week"])
    assert done.exit_code == 2 and "--horizon week" in done.output


def test_a_table_below_the_data_folder_stays_where_it_is(project: Path) -> None:
    (project / "data" / "shop").mkdir(parents=True)
    table = project / "data" / "shop" / "orders.tsv"
    orders().to_csv(table, index=False, sep="\t")
    done = CliRunner().invoke(app, ["new", "returns", "--from", str(table), "--yes", "--no-check"])
    assert done.exit_code == 0, done.output
    assert 'DATA = "shop/orders.tsv"' in (project / "models" / "returns.py").read_text()
    assert [p for p in (project / "data").rglob("*") if p.is_file()] == [table]


def test_on_a_terminal_it_asks_until_it_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["shop", "ordered_at", "nobody", "pieces", "many", "4", "city", "shop"])
    asked: list[str] = []

    def answer(question: str, default: str | None) -> str:
        asked.append(f"{question} [{default}]")
        return next(answers)

    monkeypatch.setattr(new_questions.typer, "prompt", answer)
    found = new_questions.ask(orders(), Choices())
    assert found == Choices(time="ordered_at", label="pieces", above=4.0, entities=("shop",))
    assert [question.rsplit("[", 1)[1] for question in asked] == [
        "ordered_at]", "ordered_at]", "returned]", "returned]", "4]", "4]", "shop]", "shop]",
    ]  # fmt: skip


def test_bare_enters_take_what_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_questions.typer, "prompt", lambda question, default: default)
    found = new_questions.ask(orders(), Choices())
    assert found == Choices(time="ordered_at", label="returned", entities=("shop",))
    state = orders().assign(state=lambda t: np.where(t["returned"] == 1, "lost", "kept")).drop(columns="returned")
    assert new_questions.ask(state, Choices()).positive in ("lost", "kept")
