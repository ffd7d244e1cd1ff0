"""The documents' commands that make and judge use cases work as they are written, in a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from core.discovery import discover
from stack.cli import app
from tests.doc_examples import NAMES, ROOT, Command, pages_with, python_of, to_run
from tests.tables import orders

_ROWS = 1500
# what the pages call each table, with the columns that their options name
TABLES: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "orders.csv": lambda t: t,
    "sales.parquet": lambda t: t.rename(columns={"ordered_at": "asked_at", "returned": "sold"}),
    "flights.parquet": lambda t: t.assign(arr_delay=t["returned"] * 30.0 + t["pieces"]).drop(columns="returned"),
    "ads.csv.gz": lambda t: t.rename(columns={"shop": "page", "pieces": "ad_id"}).assign(
        outcome=t["returned"].map({1: "clicked", 0: "seen"})
    ),
    "accounts.csv": lambda t: t.rename(columns={"ordered_at": "asked_on", "returned": "churned"}).assign(
        asked_on=pd.date_range("2024-01-01", periods=len(t), freq="6h").strftime("%Y-%m-%d %H:%M"), notes="none"
    ),
    "readings.tsv": lambda t: t.drop(columns="ordered_at").rename(columns={"returned": "fault"}),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a person has tables, and Evergreen its own use cases."""
    for name, made in TABLES.items():
        table = made(orders(_ROWS))
        if name.endswith(".parquet"):
            table.to_parquet(tmp_path / name)
        else:
            table.to_csv(tmp_path / name, index=False, sep="\t" if ".tsv" in name else ",")
    (tmp_path / "models").mkdir()
    for path in (ROOT / "models").glob("*.py"):
        shutil.copy(path, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evergreen(*words: str, **variables: str) -> str:
    done = CliRunner().invoke(app, list(words), env=variables)
    assert done.exit_code == 0, f"{' '.join(words)}: {done.output} {done.exception}"
    return done.output


@pytest.mark.parametrize("page", pages_with("folder"), ids=NAMES.get)
def test_use_cases_are_written_and_judged_as_a_page_says(folder: Path, page: Path) -> None:
    for command in to_run(page, "folder"):
        if command.words[1] == "check":
            evergreen(*_of_the_page(command, page, folder), **command.variables)
        else:
            name = command.words[2]
            assert f"evergreen check {name}" in evergreen(*command.words[1:], **command.variables)
            assert f"✓ {name}" in evergreen("check", name)
            use_case = discover(folder / "models")[name].use_case
            assert {entity.name for entity in use_case.entities} >= _given(command, "--entity")
            assert not _given(command, "--drop") & {field.name for field in use_case.request_fields}


def _of_the_page(command: Command, page: Path, folder: Path) -> list[str]:
    """A command that judges what the page's Python declares, if there is any: it says to save it before."""
    if python := python_of(page):
        (folder / "models" / f"{command.words[2]}.py").write_text(python)
        history = discover(folder / "models")[command.words[2]].use_case.history(folder / "data")
        assert len(history.requests) == len(history.labels) == len(history.events["sales"])
    return command.words[1:]


def _given(command: Command, option: str) -> set[str]:
    return {value for name, value in zip(command.words, command.words[1:], strict=False) if name == option}
