from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.discovery import UseCaseFile
from core.errors import NotEnoughData, TrainingError
from core.policy import Policy, Selection
from features.offline.training import TrainingSet
from registry.comparison import Champion, build_candidates, pick
from registry.verdict import rejudge
from registry.version_folder import load_version, write_version_folder

MakeRows = Callable[..., TrainingSet]
MakeUseCase = Callable[..., UseCaseFile]
MINUTE = timedelta(minutes=1)


def moment(rows: TrainingSet) -> datetime:
    return datetime.fromisoformat(f"{rows.at[-1]}+00:00") + MINUTE


def selecting(declared: UseCaseFile, *selections: Selection, **policy: Any) -> UseCaseFile:
    asked = Policy(min_rows=200, holdout_rows=200, selections=selections, **policy)
    return replace(declared, use_case=replace(declared.use_case, policy=asked))


def turned(rows: TrainingSet, until: int) -> TrainingSet:
    """The same rows, in which the label meant the opposite up to some time ago."""
    labels = rows.y.copy()
    labels[:until] = 1 - labels[:until]
    return replace(rows, y=labels)


def test_every_selection_gives_a_candidate_that_says_which(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows = make_rows(1000)
    declared = selecting(
        use_case_file, Selection(kind="all"), Selection(window=500 * MINUTE),
        Selection(kind="exponential", half_life=100 * MINUTE), Selection(kind="validated", window=400 * MINUTE),
    )  # fmt: skip
    candidates = build_candidates(declared, rows, moment(rows), lambda: None)
    assert [each.profile["selection"]["kind"] for each in candidates] == ["all", "window", "exponential", "validated"]
    trained = [each.profile["training"]["rows"] for each in candidates]
    assert trained[:3] == [800, 300, 600] and trained[3] in (200, 600)
    assert len({each.onnx for each in candidates}) >= 3
    assert all(np.array_equal(each.holdout.y, rows.y[800:]) for each in candidates)
    assert candidates[1].params["selection.name"].startswith("window of 0.347")
    assert candidates[3].profile["selection"]["validation_log_loss"]


def test_after_a_change_the_window_that_forgets_wins_and_is_on_record(
    use_case_file: UseCaseFile, make_rows: MakeRows
) -> None:
    rows = turned(make_rows(1200), 800)
    declared = selecting(use_case_file, Selection(kind="all"), Selection(window=380 * MINUTE))
    candidates = build_candidates(declared, rows, moment(rows), lambda: None)
    chosen, verdict = pick(candidates, None, None, declared.use_case.policy, unused)
    assert chosen is candidates[1] and verdict.action == "promote"
    assert verdict.evidence["selection"]["kind"] == "window"
    assert [each["verdict"] for each in verdict.evidence["selections_tried"]] == ["reject", "promote"]
    assert rejudge(verdict.evidence) == verdict


def test_the_validated_window_forgets_by_itself(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows = turned(make_rows(1600), 1000)
    declared = selecting(use_case_file, Selection(kind="validated", window=1100 * MINUTE))
    (candidate,) = build_candidates(declared, rows, moment(rows), lambda: None)
    assert candidate.profile["selection"]["window_days"] == pytest.approx(550 / 1440)


def test_the_champion_is_asked_once_and_the_bounds_are_for_as_many_as_were_tried(
    use_case_file: UseCaseFile, make_rows: MakeRows, tmp_path: Path
) -> None:
    old = make_rows(1000, seed=1)
    early = build_candidates(selecting(use_case_file), turned(old, 1000), moment(old), lambda: None)[0]
    write_version_folder(early, tmp_path / "v", reason="r", as_of=datetime(2019, 1, 1, tzinfo=UTC))
    champion = Champion("3", load_version(tmp_path / "v"))
    rows, asked = make_rows(1000), []

    def build_matrix(use_case: Any, requests: Any) -> Any:
        asked.append(len(requests))
        return rows.X[800:] if len(requests) == 200 else old.X[850:]

    declared = selecting(use_case_file, Selection(kind="all"), Selection(window=600 * MINUTE), segments=("count",))
    candidates = build_candidates(declared, rows, moment(rows), lambda: None)
    _, verdict = pick(candidates, champion, turned(old, 1000).newest(150), declared.use_case.policy, build_matrix)
    assert asked == [200, 150]
    assert verdict.evidence["champion"]["version"] == "3"
    assert verdict.evidence["confidence"] == pytest.approx(0.975) and verdict.evidence["tried"] == 2
    assert verdict.evidence["old_regime"]["rows"] == 150
    assert verdict.action == "keep" and "from before the training window" in verdict.reason
    assert {each["feature"] for each in verdict.evidence["leakage"]} == {"size", "count", "noise"}


def test_one_that_cannot_be_trained_does_not_keep_the_others_from_it(
    use_case_file: UseCaseFile, make_rows: MakeRows, caplog: Any
) -> None:
    rows = make_rows(1000)
    declared = selecting(use_case_file, Selection(window=100 * MINUTE), Selection(kind="all"))
    candidates = build_candidates(declared, rows, moment(rows), lambda: None)
    assert [each.profile["selection"]["kind"] for each in candidates] == ["all"]
    assert "200 labelled rows, at least 202 are needed" in caplog.text
    with pytest.raises(NotEnoughData):
        build_candidates(selecting(use_case_file, Selection(window=100 * MINUTE)), rows, moment(rows), lambda: None)


def test_a_warm_start_goes_on_from_the_champion(use_case_file: UseCaseFile, make_rows: MakeRows) -> None:
    rows = make_rows(1000)
    cold = build_candidates(selecting(use_case_file), rows, moment(rows), pytest.fail)[0]
    declared = selecting(use_case_file, Selection(kind="all", warm_start=True))
    warm = build_candidates(declared, rows, moment(rows), lambda: cold.estimator)[0]
    assert warm.profile["selection"]["went_on"] is True
    lost = build_candidates(declared, rows, moment(rows), lambda: None)[0]
    assert lost.profile["selection"]["went_on"] is False


def test_a_warm_start_is_refused_where_there_is_none(make_use_case: MakeUseCase, make_rows: MakeRows) -> None:
    boosted = make_use_case(
        "HistGradientBoostingClassifier()", "from sklearn.ensemble import HistGradientBoostingClassifier"
    )
    declared = selecting(boosted, Selection(kind="all", warm_start=True))
    with pytest.raises(TrainingError, match="HistGradientBoostingClassifier cannot go on"):
        build_candidates(declared, make_rows(600), datetime(2019, 3, 1, tzinfo=UTC), lambda: None)


def unused(use_case: Any, requests: Any) -> Any:
    raise AssertionError("there is no champion to build a matrix for")
