"""A promotion that labels show worse is taken back once, and a person's hand is never overruled."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.clock import ManualClock
from core.decision import Decision
from core.ledger import Ledger
from core.policy import AftermathPolicy
from core.use_case import Policy
from flows import aftermath
from serving.standing import read_standing
from tests.sample_use_case import sample_use_case

NOW = datetime(2019, 2, 20, tzinfo=UTC)
PROMOTED = NOW - timedelta(days=3)
NAME = "sample"
USE_CASE = sample_use_case()
COLUMNS = USE_CASE.features.columns


class Aliases:
    """The part of a registry that is needed; may be cut off before the next move."""

    def __init__(self) -> None:
        self.champion: str | None = "8"
        self.moves: list[str | None] = []
        self.is_cut_off = False

    def alias(self, use_case: str, name: str) -> str | None:
        return self.champion

    def set_alias(self, use_case: str, name: str, version: str | None) -> None:
        if self.is_cut_off:
            raise ConnectionError("MLflow is gone")
        self.champion = version
        self.moves.append(version)


class Log:
    """Predictions and labels; remembers from when on it was asked."""

    def __init__(self, predictions: pd.DataFrame, labels: pd.DataFrame) -> None:
        self._predictions, self._labels = predictions, labels
        self.asked: list[datetime] = []

    def predictions(self, use_case: str, *, since: datetime, until: datetime) -> pd.DataFrame:
        self.asked.append(since)
        rows = self._predictions
        return rows.loc[(rows["at"] >= since) & (rows["at"] < until)]

    def labels(self, use_case: str, *, since: datetime, known_by: datetime) -> pd.DataFrame:
        return self._labels


def history(n: int = 3000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What version 8 answered, a coin; the first feature is the chance of a one."""
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.05, 0.95, n).astype(np.float32)
    at = pd.date_range(PROMOTED, periods=n, freq="min")
    frame = pd.DataFrame({"prediction_id": [f"p{i}" for i in range(n)], "at": at, "version": "8", "score": 0.5})
    features = {f"f__{name}": np.zeros(n, np.float32) for name in COLUMNS} | {f"f__{COLUMNS[0]}": chance}
    labels = pd.DataFrame({"prediction_id": frame["prediction_id"], "label": rng.random(n) < chance, "known_at": at})
    return frame.assign(**features), labels.astype({"label": int})


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Version 8 took the place of 7 three days ago; both have the same features, of which 7 answers the first."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", ManualClock(PROMOTED))
    ledger.migrate()
    deploy(ledger, "7", None)
    ledger.record(NAME, "promotion", Decision("promote", "better"), actor="t", as_of=PROMOTED, version="8")
    deploy(ledger, "8", "7")
    whole = SimpleNamespace(ledger=ledger, registry=Aliases(), log=Log(*history()), specs={"7": {}, "8": {}}, joins=0)

    def fetch(_: Any, use_case: str, version: str) -> Path:
        folder = tmp_path / version
        folder.mkdir(exist_ok=True)
        (folder / "feature_spec.json").write_text(json.dumps(whole.specs[version]))
        return folder

    def load(folder: Path) -> Any:
        spec = json.loads((folder / "feature_spec.json").read_text())
        scorer = SimpleNamespace(score=lambda matrix: matrix[:, 0])
        return SimpleNamespace(spec=spec, scorer=scorer, use_case_file=SimpleNamespace(use_case=USE_CASE))

    def join(log: Any, use_case: Any, rows: pd.DataFrame) -> Any:
        assert {"shop", "amount"} <= set(rows.columns), "the join asks for every request field"
        whole.joins += 1
        return rows[[f"f__{name}" for name in COLUMNS]].to_numpy(dtype=np.float32)

    monkeypatch.setattr(aftermath, "fetch_version", fetch)
    monkeypatch.setattr(aftermath, "load_version", load)
    monkeypatch.setattr(aftermath, "point_in_time_matrix", join)
    monkeypatch.setattr(aftermath, "get_run_logger", lambda: logging.getLogger("aftermath"))
    yield whole
    ledger.close()


def deploy(ledger: Ledger, version: str, previous: str | None) -> None:
    live = ledger.live(NAME)
    ledger.deploy(
        NAME, expected_generation=live.generation if live else 0, version=version, previous=previous, actor="t",
        reason="t", as_of=PROMOTED,
    )  # fmt: skip


def recorded(context: Any, kind: str) -> list[tuple[str, str | None]]:
    return [(entry.action, entry.version) for entry in reversed(context.ledger.entries(NAME, kind=kind))]


def look(context: Any, at: datetime = NOW) -> str | None:
    decision = aftermath.look_back(context, USE_CASE, at)
    return decision.action if decision else None


def test_a_worse_version_is_taken_back_while_another_one_is_kept_waiting(context: Any) -> None:
    """The alias is on a version that may not answer: it stays there, and the deployer goes back by the ledger."""
    context.registry.champion = "9"
    waits = Decision("refuse", "it has passed no gate")
    context.ledger.record(NAME, "promotion", waits, actor="deployer", as_of=PROMOTED, version="9")
    assert [look(context), look(context)] == ["rollback", None]
    assert context.registry.moves == []
    assert read_standing(context.ledger, NAME).barred == {"champion": "8"}
    assert recorded(context, "promotion")[-1] == ("rollback", "7")


def test_a_worse_version_is_taken_back_once(context: Any) -> None:
    assert [look(context), look(context)] == ["rollback", None]

    assert context.registry.moves == ["7"]
    assert recorded(context, "aftermath") == [("rollback", "8")]
    assert recorded(context, "promotion") == [("promote", "8"), ("rollback", "7")]
    (verdict,) = context.ledger.entries(NAME, kind="aftermath")
    (taken,) = context.ledger.entries(NAME, kind="promotion", actions=("rollback",))
    assert taken.evidence == {"alias": "champion", "from": "8", "decision_id": verdict.id}
    assert verdict.evidence["generation"] == 2
    assert verdict.evidence["facts"]["labelled"] == 3000


def test_the_version_that_was_put_back_is_left_alone(context: Any) -> None:
    look(context)
    deploy(context.ledger, "7", "8")

    assert look(context) is None


def test_what_a_person_promotes_again_is_left_alone(context: Any) -> None:
    look(context)
    deploy(context.ledger, "7", "8")
    deploy(context.ledger, "8", "7")
    context.registry.champion = "8"

    assert look(context) is None
    assert context.registry.moves == ["7"]


def test_an_alias_that_was_moved_already_is_left_alone(context: Any) -> None:
    context.registry.champion = "9"

    assert look(context) is None
    assert recorded(context, "aftermath") == []


def test_an_alias_that_is_moved_while_it_is_judged_stays(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = aftermath.judge_aftermath

    def judge_slowly(*args: Any) -> Decision:
        context.registry.champion = "9"
        return judge(*args)

    monkeypatch.setattr(aftermath, "judge_aftermath", judge_slowly)
    look(context)
    look(context)

    assert context.registry.moves == []
    assert recorded(context, "promotion")[1:] == [("keep", "8")]


def test_a_run_that_was_cut_off_is_finished_by_the_next(context: Any) -> None:
    context.registry.is_cut_off = True
    with pytest.raises(ConnectionError):
        look(context)
    context.registry.is_cut_off = False

    assert [look(context), look(context)] == ["rollback", None]
    assert context.registry.moves == ["7"]
    assert recorded(context, "aftermath") == [("rollback", "8")]


def test_waiting_is_recorded_at_every_look(context: Any) -> None:
    early = PROMOTED + timedelta(hours=3)

    assert [look(context, early), look(context, early + timedelta(hours=1))] == ["wait", "wait"]
    assert recorded(context, "aftermath") == [("wait", "8"), ("wait", "8")]
    assert look(context) == "rollback"


def test_a_confirmed_version_is_not_judged_again(context: Any) -> None:
    late = PROMOTED + AftermathPolicy().period
    context.log = Log(*(frame.iloc[:100] for frame in history()))

    assert [look(context, late), look(context, late)] == ["confirm", None]
    assert context.registry.moves == []


def test_the_first_version_has_nothing_before_it(context: Any, tmp_path: Path) -> None:
    context.ledger.close()
    context.ledger = Ledger(f"sqlite:///{tmp_path / 'other.db'}", ManualClock(PROMOTED))
    context.ledger.migrate()
    assert look(context) is None
    deploy(context.ledger, "8", None)
    assert look(context) is None


def test_only_what_the_version_answered_since_counts(context: Any) -> None:
    rows, labels = history()
    rows.loc[rows.index % 2 == 0, "version"] = "7"
    context.log = Log(rows, labels)

    look(context)

    (verdict,) = context.ledger.entries(NAME, kind="aftermath")
    assert verdict.evidence["facts"]["rows"] == 1500
    assert context.log.asked == [PROMOTED]


def test_a_version_with_other_features_has_them_joined(context: Any) -> None:
    context.specs["7"] = {"views": ["another"]}

    assert look(context) == "rollback"
    assert context.joins == 1


def test_only_one_run_judges_at_a_time(context: Any) -> None:
    assert context.ledger.acquire(f"aftermath/{NAME}", "another", 60) == 1

    assert look(context) is None


def test_the_policy_of_the_use_case_counts() -> None:
    assert Policy().aftermath == AftermathPolicy()
