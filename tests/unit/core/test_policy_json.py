from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.clock import parse_moment
from core.discovery import load_use_case
from core.errors import UseCaseError
from core.policy import GatePolicy, Policy, Selection
from core.policy_file import chosen_policy, policy_path, write_policy
from core.policy_json import policy_as_json, policy_from_json, trigger_as_json, trigger_from_json
from core.triggers import (
    AllOf,
    Always,
    AnyOf,
    Drift,
    EstimatedDrop,
    KOf,
    Never,
    NewLabels,
    PerformanceDrop,
    Schedule,
    Trigger,
    WorthIt,
)

ROOT = Path(__file__).resolve().parents[3]
DAY = timedelta(days=1)
EACH: tuple[Trigger, ...] = (
    Never(), Always(), Schedule(3 * DAY), NewLabels(10), Drift(("data",)), PerformanceDrop(0.1), EstimatedDrop(0.1),
    WorthIt(2.5),
)  # fmt: skip


@pytest.mark.parametrize("trigger", [*EACH, AnyOf(EACH), AllOf(EACH), KOf(2, (AnyOf(EACH), Never()))])
def test_triggers_come_back_as_they_were(trigger: Trigger) -> None:
    assert trigger_from_json(json.loads(json.dumps(trigger_as_json(trigger)))) == trigger


@pytest.mark.parametrize("trigger", [None, KOf(1, EACH)])
def test_policies_come_back_as_they_were(trigger: Trigger | None) -> None:
    policy = Policy(
        trigger=trigger, min_gain=0.01, segments=("vendor_id",), gate=GatePolicy(max_latency_ratio=None),
        selections=(Selection(kind="validated"), Selection(kind="all", warm_start=True)),
    )  # fmt: skip

    assert policy_from_json(json.loads(json.dumps(policy_as_json(policy)))) == policy


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"kind": "sometimes"}, "no kind of trigger 'sometimes'"),
        ({"by": 0.1}, "no kind of trigger None"),
        ({"kind": "schedule", "by": 0.1}, "'schedule' has no 'by'"),
        ({"kind": "any_of", "triggers": []}, "lacks triggers"),
        ({"kind": "k_of", "k": 2, "triggers": [{"kind": "never"}]}, "lacks triggers"),
        ({"kind": "schedule", "every": "soon"}, "duration"),
    ],
)
def test_what_is_no_trigger_is_refused(recorded: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trigger_from_json(recorded)


def test_an_unknown_field_of_a_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="has no 'retrain_evry'"):
        policy_from_json({"retrain_evry": "P1D"})


@pytest.fixture
def use_case_file(tmp_path: Path) -> Path:
    path = tmp_path / "taxi_tip.py"
    path.write_text((ROOT / "models" / "taxi_tip.py").read_text())
    return path


def test_a_chosen_policy_counts_in_place_of_the_declared_one(use_case_file: Path) -> None:
    declared = load_use_case(use_case_file)
    trigger = trigger_as_json(PerformanceDrop(0.05))

    write_policy(use_case_file, {"trigger": trigger}, why="cheapest", written_at=parse_moment("2026-11-26"))

    loaded = load_use_case(use_case_file)
    assert loaded.use_case.policy == replace(declared.use_case.policy, trigger=PerformanceDrop(0.05))
    assert loaded.digest == declared.digest
    policy_path(use_case_file).unlink()
    assert load_use_case(use_case_file).use_case.policy == declared.use_case.policy


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"policy": 1}', '{"policy": {"trigger": {"kind": "x"}}}'])
def test_a_file_that_holds_no_policy_is_named(use_case_file: Path, content: str) -> None:
    policy_path(use_case_file).write_text(content)

    with pytest.raises(UseCaseError, match=r"taxi_tip\.policy\.json.*holds no policy"):
        chosen_policy(use_case_file, Policy())
