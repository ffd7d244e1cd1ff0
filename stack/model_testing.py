"""Testing a model of a use case: a registered version, or one trained on the history for the purpose."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pandas as pd

from core.discovery import UseCaseFile, discover, select
from core.errors import DeploymentError, NotEnoughData
from core.settings import Settings
from core.use_case import History, UseCase
from features.offline.log import OfflineLog
from features.offline.training import build_training_set
from features.tables import TableAccess
from monitoring.replay.asked import ask_all
from monitoring.replay.importing import span_of
from registry import selection
from registry.candidate import build_candidate
from registry.model_tests import Subject, TestReport, run_model_tests
from registry.scorer import OnnxScorer
from registry.version_folder import load_version, write_version_folder


@dataclass(frozen=True)
class Tested:
    """What was tested, and how it came out.

    Args:
        report: of the tests.
        version: its number; None for one that was trained for the purpose.
        said: what it is, in one sentence.
    """

    report: TestReport
    version: str | None
    said: str


def run_tests(settings: Settings, use_case: str, version: str | None) -> Tested:
    """Test a registered version, or one trained on the history.

    Args:
        settings: where things are.
        use_case: its name.
        version: its number or an alias; None: train one on the use case's history. No stack is needed for that.

    Raises:
        UnknownUseCase: if there is none of that name.
        DeploymentError: if there is no such version.
        NotEnoughData: if there are too few labelled rows.
    """
    declared = select(discover(settings.models_dir), use_case)
    return _of_history(settings, declared) if version is None else _of_version(settings, declared, version)


def _of_history(settings: Settings, declared: UseCaseFile) -> Tested:
    use_case = declared.use_case
    history = use_case.history(settings.data_dir)
    end = span_of(history)[1] + use_case.label.horizon
    history = _newest(history, use_case, end)
    databases = {name: url.get_secret_value() for name, url in settings.databases.items()}
    asked = ask_all(use_case, history, TableAccess(settings.data_dir, databases))
    training = asked.training_set(asked.training_rows(end - use_case.policy.training_window, end))
    candidate = build_candidate(declared, training)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "version"
        write_version_folder(candidate, folder, reason="evergreen test", as_of=end)
        reloaded = load_version(folder).scorer
        holdout = candidate.holdout
        subject = Subject(OnnxScorer(candidate.onnx).score, reloaded.score, holdout.X, holdout.y, holdout.requests)
        report = run_model_tests(use_case, subject)
    rows = candidate.profile["training"]["rows"]
    said = f"trained on the {rows:,} newest rows of its history, tested on the {len(holdout.y):,} after them"
    return Tested(report, None, said)


def _newest(history: History, use_case: UseCase, end: datetime) -> History:
    """As many of the newest questions as are trained on, and some before, so that batch views were refreshed."""
    since = pd.Timestamp(end - use_case.policy.training_window - 2 * use_case.policy.materialize_every)
    return replace(history, requests=history.requests[history.requests["at"] >= since].reset_index(drop=True))


def _of_version(settings: Settings, declared: UseCaseFile, wanted: str) -> Tested:
    from registry.mlflow_registry import MlflowRegistry

    name, registry = declared.use_case.name, MlflowRegistry(settings.mlflow_url)
    version = wanted if wanted.isdecimal() else registry.alias(name, wanted)
    if version is None:
        raise DeploymentError(f"{name} has no alias {wanted!r}. Name a version: evergreen history {name}")
    info = registry.info(name, version)
    folder = registry.fetch(name, version, settings.home / "versions" / name / version)
    loaded, again = load_version(folder, digest=info.digest), load_version(folder)
    own = loaded.use_case_file.use_case
    since = selection.since(own.policy.trains_on, info.as_of)
    rows = build_training_set(OfflineLog(settings.offline_dir), own, as_of=info.as_of, since=since)
    rows = rows.newest(own.policy.holdout_rows)
    if not len(rows.y):
        raise NotEnoughData(name, 0, 1, f"labelled rows in the offline log as of {info.as_of:%Y-%m-%d %H:%M}")
    subject = Subject(loaded.scorer.score, again.scorer.score, rows.X, rows.y, rows.requests)
    said = f"version {version}, tested on the {len(rows.y):,} newest rows that were labelled when it was trained"
    return Tested(run_model_tests(own, subject), version, said)
