"""Each import contract, broken once on purpose: a contract that never fires checks nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BAD_IMPORTS = {
    "layers": [
        ("core/clock.py", "import features.definitions"),
        ("features/definitions.py", "import registry"),
        ("registry/versions.py", "import monitoring"),
        ("monitoring/triggers.py", "import registry.versions"),
        ("registry/gate.py", "import serving.model_host"),
        ("serving/deployer.py", "import flows"),
        ("flows/client.py", "import stack.local"),
    ],
    "prefect": [("stack/local.py", "import prefect")],
    "mlflow": [("stack/local.py", "import mlflow")],
    "evidently": [("registry/gate.py", "from evidently import Report")],
    "web": [("stack/local.py", "import uvicorn")],
    "telemetry": [("serving/deployer.py", "import opentelemetry.trace")],
    "handler": [
        ("serving/torchserve/handler.py", "import serving.model_host"),
        ("serving/torchserve/handler.py", "import registry.versions"),
    ],
}
CASES = [(contract, path, line) for contract, bad in BAD_IMPORTS.items() for path, line in bad]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and of the contracts."""
    copy = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in contracts()["root_packages"]:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_every_contract_is_broken_here_once() -> None:
    assert set(BAD_IMPORTS) == {contract["id"] for contract in contracts()["contracts"]}


def test_the_packages_keep_every_contract(project: Path) -> None:
    assert "0 broken" in lint(project, [contract["id"] for contract in contracts()["contracts"]])


@pytest.mark.parametrize(("contract", "path", "line"), CASES, ids=[f"{c}: {p}: {line}" for c, p, line in CASES])
def test_a_bad_import_is_found(project: Path, contract: str, path: str, line: str) -> None:
    file = project / path
    text = file.read_text()
    file.write_text(f"{text}\n{line}\n")
    try:
        assert "1 broken" in lint(project, [contract])
    finally:
        file.write_text(text)


def contracts() -> dict[str, list[dict[str, str]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def lint(project: Path, chosen: list[str]) -> str:
    options = [part for contract in chosen for part in ("--contract", contract)]
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    found = subprocess.run(
        [sys.executable, "-c", command, *options],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts:" in found.stdout, found.stdout + found.stderr
    return found.stdout
