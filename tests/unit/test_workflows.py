"""The workflows run commands that exist, trust nothing from outside, and hold to no more rights than they need."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from core.settings import GithubSettings, Settings
from stack.cli import app
from stack.environment import settings_environment

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
COMMANDS = set(typer.main.get_group(app).commands)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # keeps the key "on" a text
    return found


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def test_there_are_three() -> None:
    assert [path.name for path in FILES] == ["ci.yml", "delivery.yml", "retrain.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_form_is_that_of_a_workflow(path: Path) -> None:
    flow = read(path)
    assert flow["on"] and flow["jobs"] and flow["permissions"] == {"contents": "read"}
    for name, job in flow["jobs"].items():
        assert job["runs-on"] and int(job["timeout-minutes"]) > 0, name
        assert set(job.get("needs", "").split()) <= set(flow["jobs"]), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]), step


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_commands_it_runs_are_there(path: Path) -> None:
    runs = "\n".join(step.get("run", "") for step in steps_of(path))
    found = {
        "make": (set(re.findall(r"\bmake ([a-z]+)", runs)), TARGETS),
        "evergreen": (set(re.findall(r"\.venv/bin/evergreen ([a-z]+)", runs)), COMMANDS),
    }
    for asked, known in found.values():
        assert asked <= known
    modules = re.findall(r"python -m ([\w.]+)", runs)
    assert all(find_spec(module) for module in modules)
    assert any(asked for asked, _ in found.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_from_outside_becomes_part_of_a_command(path: Path) -> None:
    for step in steps_of(path):
        assert "github.event" not in step.get("run", ""), "hand it over by a variable instead"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_variables_it_sets_are_settings(path: Path) -> None:
    known = set(settings_environment(Settings()))
    assert set(re.findall(r"EVERGREEN_[A-Z0-9]+__[A-Z_]+(?=:)|EVERGREEN_HOME(?=:)", path.read_text())) <= known


def test_the_retrain_waits_for_the_event_that_evergreen_sends() -> None:
    flow = read(ROOT / ".github" / "workflows" / "retrain.yml")
    assert flow["on"] == {"repository_dispatch": {"types": [GithubSettings().event]}}
    assert flow["jobs"]["retrain"]["needs"] == "verify"
    assert flow["concurrency"]["cancel-in-progress"] == "false"
    assert "flows.dispatched verify" in flow["jobs"]["verify"]["steps"][-1]["run"]
    assert "flows.dispatched retrain" in flow["jobs"]["retrain"]["steps"][-1]["run"]
