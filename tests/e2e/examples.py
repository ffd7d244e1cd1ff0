"""How the documents' commands are run on the live stack: what stands for their placeholders, and what must follow."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import httpx

from core.clock import SystemClock
from core.discovery import discover
from core.ledger import Ledger
from core.settings import PromotionSettings, Settings
from core.trust import trusted
from features.tables import TableAccess
from monitoring.replay.asked import ask_all
from monitoring.replay.importing import span_of
from registry.candidate import build_candidate
from registry.mlflow_registry import MlflowRegistry
from registry.version_folder import write_version_folder
from serving.keys.sql_store import SqlKeyStore
from serving.promoting import Promotions
from serving.routes import RedisRouteTable
from serving.routing import Route, Share
from stack import cli
from stack.drill.spoiled import renewed
from stack.environment import child_environment, settings_environment
from stack.local import LocalStack
from tests.doc_examples import ROOT, Command
from tests.e2e.conftest import END, Live
from tests.waiting import until

_BIN = Path(sys.executable).parent
_SPAN = ["--from", "2018-03-01", "--to", "2018-03-15"]  # of a replay: the whole past takes minutes
_SAYS: Mapping[str, str] = {
    "promote": "answers now", "approve": "answers now", "rollback": "answers now", "shadow": "its shadow",
    "canary": "its canary|canary no longer", "status": 'is up|"stack": "up"', "up": "is up already",
    "doctor": "✓ ports: the stack is up", "history": "id +as of|answered at", "explain": "Decision .*ecomputed",
    "test": 'No required|"ok": true', "drill": "rollback .*pass", "rebuild": "Rebuilt", "retrain": "Completed",
    "create": "eg_", "list": " live", "rotate": "eg_", "revoke": "revoked", "curl": '"predictions"',
    "replay": "Recommended|recommended",
}  # fmt: skip
"""What a command says once it has done its work; one that is missing here has to be added."""


@dataclass(frozen=True)
class Stage:
    """The live stack as the pages take it to be.

    Args:
        live: version 1 answers alone, 2 did before it.
        third: a version that no gate has seen.
        folder: where commands are run, with use-case files that they may change.
    """

    live: Live
    third: str
    folder: Path

    @property
    def keys_url(self) -> str:
        """A ledger for keys alone: one key would close the stack's door for all other tests."""
        return f"sqlite:///{self.folder / 'keys.db'}"

    def stands_for(self, word: str) -> str:
        """What a placeholder of a page is here; any other word is itself."""
        live = self.live
        known = {
            "7": live.first_version, "8": live.second_version, "9": self.third, "returns": "taxi_tip",
            "2019-02-03T10:00Z": "2018-02-01T10:00Z",
            "localhost:18080/v1/models/ad_click/predict": f"{live.settings.gateway_url}/v1/models/ad_click/predict",
        }  # fmt: skip
        if word in ("42", "123"):
            return str(self._newest_id({"42": "gate", "123": "delivery"}[word]))
        return self._key_id() if word == "ID" else known.get(word, word)

    def _newest_id(self, kind: str) -> int:
        with closing(Ledger(self.live.settings.ledger_url)) as ledger:
            return ledger.entries("taxi_tip", kind=kind, limit=1)[0].id

    def _key_id(self) -> str:
        with closing(SqlKeyStore(self.keys_url)) as store:
            return store.read()[-1].id

    @property
    def route(self) -> Route:
        """Who answers taxi_tip."""
        with closing(RedisRouteTable.connect(self.live.settings)) as table:
            return table.routes()["taxi_tip"]


def carry_out(stage: Stage, command: Command) -> str:
    """Run a command of a page as a person would, and check its exit code, what it says and what it did."""
    with _prepared(stage, command) as (words, environment):
        is_own = words[0] == "curl" or command.words[0] == ".venv/bin/evergreen"
        code, said = (_in_a_process if is_own else _in_here)(words, environment | command.variables, stage.folder)
        assert code == 0, f"{command.said}: exit code {code}: {said}"
        verb = words[0] if words[0] == "curl" else words[2] if words[1] in ("keys", "features") else words[1]
        assert re.search(_SAYS[verb], said, re.S), f"{command.said}: {said}"
        _check_route(stage, words)
    return said


@contextmanager
def _prepared(stage: Stage, command: Command) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The words of a command as they are run here, and the variables of the stack."""
    words = [stage.stands_for(word) for word in command.words]
    environment = settings_environment(stage.live.settings)
    match words[1]:
        case "keys":
            environment["EVERGREEN_LEDGER__URL"] = stage.keys_url
        case "replay":
            environment["EVERGREEN_MODELS_DIR"] = str(stage.folder / "models")
            words += _SPAN
        case "approve":
            with _two_people_needed(stage.live) as strict:
                words[3] = _asked_for(stage.live, stage.folder)
                yield words, settings_environment(strict)
            return
    if words[0] == "curl":
        words += ["-H", f"X-Evergreen-Now: {END.isoformat()}"]  # the stack lives in the past
    yield words, environment


@contextmanager
def _two_people_needed(live: Live) -> Iterator[Settings]:
    """Another deployer in place of the stack's, for which two people must stand for a version."""
    strict = live.settings.model_copy(update={"promotion": PromotionSettings(second_person=True)})
    supervisor = LocalStack(live.settings).supervisor
    supervisor.stop(["deployer"])
    with (live.settings.home / "strict.log").open("ab") as log:
        deployer = subprocess.Popen(
            [sys.executable, "-m", "serving.deployer"], env=child_environment(strict), cwd=ROOT, stdout=log, stderr=log
        )
    try:
        yield strict
    finally:
        deployer.terminate()
        deployer.wait(timeout=30)
        supervisor.start("deployer")


def _asked_for(live: Live, folder: Path) -> str:
    """A version that somebody else wants promoted, and that is held for that."""
    version = ungated(live, folder / "asked")
    with closing(Ledger(live.settings.ledger_url)) as ledger:
        _ask(live, ledger, "taxi_tip", version)
        until(lambda: bool(ledger.entries("taxi_tip", version=version, actions=("hold",), limit=1)), "it is not held")
    return version


def _in_a_process(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    command = [str(_BIN / "evergreen") if Path(words[0]).name == "evergreen" else words[0], *words[1:]]
    done = subprocess.run(
        command, env=os.environ | environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _in_here(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """The same without a process of its own, whose start takes seconds; who is asked whether to begin says yes."""
    said, code = io.StringIO(), 0
    with (
        patch.dict(os.environ, environment), patch.object(sys, "argv", ["evergreen", *words[1:]]),
        patch.object(sys, "stdin", io.StringIO("y\n")), redirect_stdout(said), chdir(folder),
    ):  # fmt: skip
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, said.getvalue()


def _check_route(stage: Stage, words: Sequence[str]) -> None:
    match words[1:]:
        case ["promote" | "approve", _, version, *_]:
            assert stage.route.version == version
        case ["rollback", *_]:
            assert stage.route.version == stage.live.first_version
        case ["canary", _, "--end"]:
            assert stage.route.canary is None
        case ["canary", _, version, "--percent", percent]:
            assert stage.route.canary == Share(version, float(percent))
        case ["shadow", _, version]:
            assert stage.route.shadow == Share(version, 100)


def set_stage(live: Live) -> None:
    """Version 1 answers alone, and 2 did before it, whatever the gate said of it."""
    registry = MlflowRegistry(live.settings.mlflow_url)
    for role in ("canary", "shadow"):
        registry.set_alias("taxi_tip", role, None)
    with closing(Ledger(live.settings.ledger_url)) as ledger:
        newest = ledger.live("taxi_tip")
        if newest is None or (newest.version, newest.previous) != (live.first_version, live.second_version):
            for version in (live.second_version, live.first_version):
                promote(live, ledger, "taxi_tip", version)


def promote(live: Live, ledger: Ledger, use_case: str, version: str) -> None:
    """Let a version answer, and wait until it does."""
    _ask(live, ledger, use_case, version)
    url = f"{live.settings.gateway_url}/v1/models/{use_case}"
    until(
        lambda: httpx.get(url, verify=trusted()).json().get("version") == version,
        f"version {version} of {use_case} does not answer",
    )


def _ask(live: Live, ledger: Ledger, use_case: str, version: str) -> None:
    promotions = Promotions(MlflowRegistry(live.settings.mlflow_url), ledger, SystemClock())
    promotions.promote(use_case, version, actor="test", reason="for the examples", force=True)


def ungated(live: Live, folder: Path) -> str:
    """A version that no gate has seen: a copy of the second one with a file more."""
    registry = MlflowRegistry(live.settings.mlflow_url)
    copied = registry.fetch("taxi_tip", live.second_version, folder / "version")
    info = replace(registry.info("taxi_tip", live.second_version), digest=renewed(copied))
    return registry.register("taxi_tip", copied, info)


def serve_ads(live: Live, folder: Path) -> None:
    """Let a version of ad_click answer, trained on the newest of its past."""
    declared = discover(live.settings.models_dir)["ad_click"]
    policy = replace(declared.use_case.policy, min_rows=2000, holdout_rows=500)
    declared = replace(declared, use_case=replace(declared.use_case, policy=policy))
    history = declared.use_case.history(live.settings.data_dir)
    end = span_of(history)[1] + declared.use_case.label.horizon
    newest = replace(history, requests=history.requests.tail(3000).reset_index(drop=True))
    asked = ask_all(declared.use_case, newest, TableAccess(live.settings.data_dir, {}))
    training = asked.training_set(asked.training_rows(end - policy.training_window, end))
    info = write_version_folder(build_candidate(declared, training), folder, reason="for the examples", as_of=end)
    version = MlflowRegistry(live.settings.mlflow_url).register("ad_click", folder, info)
    with closing(Ledger(live.settings.ledger_url)) as ledger:
        promote(live, ledger, "ad_click", version)


def curve_of(said: str) -> list[dict[str, object]]:
    """The curve of taxi_tip, out of what `evergreen status --json` says."""
    return list(json.loads(said)["use_cases"]["taxi_tip"]["curve"])
