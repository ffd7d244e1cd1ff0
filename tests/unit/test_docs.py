"""The documents say what is true: their code runs, their links lead somewhere."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

import core.use_case
from core.discovery import UseCaseFile, discover
from core.errors import EvergreenError
from core.policy_json import policy_from_json
from core.settings import Settings
from core.use_case import Policy
from features.definitions import FeatureSet
from serving.gateway.instance_rules import InstanceRules
from serving.gateway.problems import STATUS
from stack.checking import check_use_cases
from stack.cli import app
from stack.command_page import command_page, leaves
from stack.environment import settings_environment
from tests.doc_examples import commands, fences
from tests.sample_use_case import sample_use_case

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*/*.md")])


@pytest.fixture(scope="module")
def use_cases() -> dict[str, UseCaseFile]:
    return discover(ROOT / "models")


def python_of(page: Path) -> str:
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))


def test_the_walk_through_makes_a_use_case_that_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "shop_sales.py").write_text(python_of(ROOT / "docs" / "add_a_use_case.md"))
    shutil.copy(ROOT / "models" / "taxi_tip.py", tmp_path)
    found = discover(tmp_path)
    assert list(found) == ["shop_sales", "taxi_tip"]
    use_case = found["shop_sales"].use_case
    history = use_case.history(tmp_path)
    assert len(history.requests) == len(history.labels) == len(history.events["sales"])
    (verdict,) = check_use_cases(tmp_path, "shop_sales")
    assert verdict.ok, verdict.detail


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
USAGE: Any = typer.BadParameter.__base__
WITH_COMMANDS = [page for page in PAGES if commands(page)]
NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=NAMES.get)
def test_commands_are_such_that_they_could_be_run(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    known = settings_environment(Settings())
    for command in commands(page):
        for name in command.variables:
            assert not name.startswith("EVERGREEN_") or name in known, f"{name} is no setting"
        words = command.words
        if words and Path(words[0]).name == "evergreen":
            parse(words[1:])
        elif words and words[0] == "make":
            assert [w for w in words[1:] if "=" not in w and w not in targets] == []


def parse(words: list[str]) -> None:
    """Raise an error of usage unless the command line would accept this."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    while hasattr(command, "commands"):
        name, words = words[0], words[1:]
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    command.make_context(command.name, words)


def test_a_wrong_command_would_be_found() -> None:
    for line in (["retrain"], ["retrain", "a", "b"], ["retrain", "a", "--within-s", "0"], ["status", "--fast"]):
        with pytest.raises(USAGE):
            parse(line)
    with pytest.raises(AssertionError, match="no command"):
        parse(["repeat", "a"])


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


def test_predictions_that_are_asked_for_would_be_answered(use_cases: dict[str, UseCaseFile]) -> None:
    asked = 0
    for page in PAGES:
        for command in commands(page):
            found = re.search(r"/v1/models/(\w+)/predict", " ".join(command.words))
            if command.words[:1] == ["curl"] and found:
                use_case = use_cases[found.group(1)].use_case
                body = json.loads(command.words[command.words.index("-d") + 1])
                InstanceRules(use_case.request_fields, 256).read(body)
                asked += 1
    assert asked


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
