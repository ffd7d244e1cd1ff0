"""The documents say what is true: their code runs, their links lead somewhere."""

from __future__ import annotations

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]
from sqlalchemy import create_engine

import core.use_case
from core.discovery import UseCaseFile, discover
from core.errors import EvergreenError
from core.policy_json import policy_from_json
from core.settings import Settings, load_settings
from core.use_case import Policy
from features.definitions import FeatureSet
from serving.gateway.problems import STATUS
from stack.cli import app
from stack.command_page import command_page, leaves
from stack.environment import settings_environment
from stack.local import LocalStack
from stack.processes import external_services, without_password
from tests.doc_examples import ELSEWHERE, NAMES, PAGES, ROOT, commands, fences, pages_with, python_of, to_run
from tests.sample_use_case import sample_use_case


@pytest.fixture(scope="module")
def use_cases() -> dict[str, UseCaseFile]:
    return discover(ROOT / "models")


def test_the_features_page_declares_what_is_accepted() -> None:
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "docs" / "features.md"), names)
    replace(
        sample_use_case(), entities=(names["origin"], names["carrier"]), sources=(names["arrivals"],),
        features=names["features"],
    ).validate()  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_first_example_is_what_the_file_it_shortens_declares(use_cases: dict[str, UseCaseFile]) -> None:
    real = use_cases["taxi_tip"].use_case
    trip, recent_tips, profile, *_ = real.features.views
    names = runpy.run_path(str(ROOT / "models" / "taxi_tip.py")) | vars(core.use_case) | {"FeatureSet": FeatureSet}
    names |= {field.name: field for field in real.request} | {
        "HistGradientBoostingClassifier": HistGradientBoostingClassifier
    }
    names |= {"trip": trip, "recent_tips": recent_tips, "profile": profile, "read_trips": real.history}
    exec(python_of(ROOT / "README.md"), names)
    shown = names["taxi_tip"]
    assert [shown.name, shown.description, shown.entities] == [real.name, real.description, real.entities]
    assert set(shown.request) - {...} < set(real.request)
    assert set(shown.label.known_only_after) - {...} < set(real.label.known_only_after)
    assert type(shown.estimator(("trip_distance",))) is type(real.estimator(("trip_distance",)))
    replace(real, policy=shown.policy).validate_policy()


def test_the_policy_of_the_page_on_judgement_is_accepted() -> None:
    (written,) = [
        line for line in python_of(ROOT / "docs" / "judgement.md").split("\n\n") if line.startswith("Policy(")
    ]
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "docs" / "judgement.md").replace(written, f"policy = {written}"), names)
    replace(sample_use_case(), policy=names["policy"]).validate_policy()


def test_the_model_tests_of_the_page_on_delivery_are_accepted(use_cases: dict[str, UseCaseFile]) -> None:
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "docs" / "delivery.md"), names)
    replace(use_cases["taxi_tip"].use_case, tests=names["tests"]).validate()


PACKAGES = ("core", "features", "registry", "monitoring", "serving", "flows", "stack")


def test_every_command_is_run_here_or_said_to_be_run_elsewhere() -> None:
    shown = [command for page in PAGES for command in commands(page)]
    lost = [each.said for each in shown if each.place is None and each.said not in ELSEWHERE]
    assert lost == [], "nobody runs these: let a test do so, or say in ELSEWHERE who does"
    assert ELSEWHERE.keys() <= {each.said for each in shown}, "no page shows these any more"
    for who, _ in ELSEWHERE.values():
        file, _, what = who.partition(": ")
        assert re.search(rf"\b{re.escape(what)}\b", (ROOT / file).read_text()), f"{file} has no {what}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_no_fence_is_overlooked(page: Path) -> None:
    opened = re.findall(r"^([ >]*)```(\w*)", page.read_text(), re.M)[::2]
    assert {indent for indent, _ in opened} <= {""}, "the reader of examples takes fences at the margin alone"
    assert {language for _, language in opened} <= {"", "bash", "console", "json", "python", "text"}


@pytest.mark.parametrize("page", pages_with("settings"), ids=NAMES.get)
def test_variables_that_are_exported_take_effect(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = {name: value for command in to_run(page, "settings") for name, value in command.variables.items()}
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    resolved = settings_environment(settings)
    assert {name: resolved.get(name) for name in exported} == exported
    services = external_services(settings)
    urls = {name: value for name, value in exported.items() if name.endswith("__URL")}
    for url in (urls.pop("EVERGREEN_LEDGER__URL", "sqlite://"), *settings.databases.values()):
        create_engine(url.get_secret_value() if isinstance(url, SecretStr) else url)
    assert {service.address for service in services} == {without_password(url) for url in urls.values()}
    assert not {service.name for service in services} & {process.name for process in LocalStack(settings).processes}


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {*settings_environment(Settings()), *variables_of_workflows()}
    for name in re.findall(r"EVERGREEN_[A-Z]\w*[A-Z](?!\w|…|\*)", page.read_text()):
        assert name in known or any(other.startswith(f"{name}_") for other in known), f"{name} is no setting"


def variables_of_workflows() -> list[str]:
    """What people set at GitHub, which is no setting."""
    files = (ROOT / ".github" / "workflows").glob("*.yml")
    return [name for file in files for name in re.findall(r"(?:vars|secrets)\.(EVERGREEN_\w+)", file.read_text())]


@pytest.mark.parametrize("page", [p for p in PAGES if fences(p, "json")], ids=NAMES.get)
def test_json_is_json(page: Path) -> None:
    for text in fences(page, "json"):
        json.loads(text)


def test_the_policies_are_accepted() -> None:
    names: dict[str, Any] = {}
    exec(python_of(ROOT / "docs" / "write_a_policy.md"), names)
    written = [value for value in names.values() if isinstance(value, Policy)]
    assert len(written) == 4
    shop = sample_use_case()
    for policy in written:
        segments = tuple("shop" if name == "shop" else "hour" for name in policy.segments)
        replace(shop, policy=replace(policy, segments=segments)).validate_policy()


def test_the_policy_a_replay_writes_is_as_shown() -> None:
    (shown,) = fences(ROOT / "docs" / "replay.md", "json")
    assert policy_from_json(json.loads(shown)["policy"], Policy()) != Policy()


def every_error() -> set[str]:
    """Names of all classes below EvergreenError, as the source declares them."""
    declared = [
        (name, {base.strip().rpartition(".")[2] for base in bases.split(",")})
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name, bases in re.findall(r"^class (\w+)\(([^)]*)\):", path.read_text(), re.M)
    ]
    found = {EvergreenError.__name__}
    while more := {name for name, bases in declared if bases & found} - found:
        found |= more
    return found


def test_every_error_is_on_the_page_of_troubles() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", page, re.M)
    assert len(every_error()) > 40
    assert every_error() - {name for name, *_ in rows} == set()
    statuses = {error.__name__: status for error, status in STATUS.items()}
    for name, _, cause, _ in rows:
        for said in re.findall(r"\b([45]\d\d)(?=[. ])", cause):
            assert statuses.get(name, int(said)) == int(said), name


def test_the_page_of_commands_has_every_command_and_option() -> None:
    page = command_page(app)
    found = list(leaves(typer.main.get_command(app)))
    assert len(found) > 20
    for path, command in found:
        section = page.split(f"## {path.removeprefix('evergreen ')}\n", 1)[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.name != "help":
                assert all(f"`{name}" in section for name in parameter.opts if name.startswith("-"))
