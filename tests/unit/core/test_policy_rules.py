"""What would only fail at night is said when a use case is loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.errors import UseCaseError
from core.policy import AftermathPolicy, DriftPolicy, GatePolicy, Policy, Selection
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
    WorthIt,
)
from tests.sample_use_case import sample_use_case

DAY, NO_TIME = timedelta(days=1), timedelta(0)
EACH: Any = (
    Never(), Always(), Schedule(DAY), NewLabels(1), Drift(("data", "concept")), PerformanceDrop(0.1),
    EstimatedDrop(0.1), WorthIt(),
)  # fmt: skip
FAULTS = [
    ({"segments": ("shop", "city")}, r"looks separately by \['city'\].*Policy\.segments.*names of features.*shop"),
    ({"training_window": NO_TIME}, "Policy.training_window 0:00:00.*more than zero"),
    ({"monitor_window": -DAY}, "Policy.monitor_window -1 day"),
    ({"monitor_every": NO_TIME}, "Policy.monitor_every"),
    ({"cooldown": -DAY}, "Policy.cooldown -1 day"),
    ({"holdout_rows": 0}, "Policy.holdout_rows 0"),
    ({"min_rows": 100, "holdout_rows": 100}, "Policy.min_rows 100, of which 100 are held out"),
    ({"performance_drop": 0.0}, "Policy.performance_drop 0"),
    ({"min_gain": 1.0}, "Policy.min_gain 1"),
    ({"drift": DriftPolicy(false_alarms=1.0)}, "DriftPolicy.false_alarms 1.0.*between 0 and 1"),
    ({"drift": DriftPolicy(false_alarms=float("nan"))}, "DriftPolicy.false_alarms nan"),
    ({"drift": DriftPolicy(over=4, of=3)}, "calls drift when 4 of 3 windows are over.*from 1 to of"),
    ({"drift": DriftPolicy(over=0)}, "when 0 of 3 windows"),
    ({"drift": DriftPolicy(min_effect=-0.1)}, "DriftPolicy.min_effect -0.1"),
    ({"gate": GatePolicy(confidence=0.5)}, "GatePolicy.confidence 0.5.*between 0.5 and 1"),
    ({"gate": GatePolicy(confidence=95)}, "GatePolicy.confidence 95"),
    ({"gate": GatePolicy(max_latency_ratio=0.0)}, "GatePolicy.max_latency_ratio 0.0"),
    ({"gate": GatePolicy(segment_margin=-1.0)}, "GatePolicy.segment_margin -1.0"),
    ({"aftermath": AftermathPolicy(confidence=0.0)}, "AftermathPolicy.confidence 0.0"),
    ({"aftermath": AftermathPolicy(period=NO_TIME)}, "AftermathPolicy.period"),
    ({"selections": (Selection(), Selection(window=NO_TIME))}, "Selection.window 0:00:00"),
    ({"selections": (Selection(kind="exponential", half_life=-DAY),)}, "Selection.half_life -1 day"),
    ({"selections": (Selection(kind="newest"),)}, "Selection of the kind 'newest'.*all, window, exp"),  # type: ignore
    ({"trigger": AnyOf(())}, "AnyOf of 0 triggers, of which 1 must fire"),
    ({"trigger": AllOf(())}, "AllOf of 0 triggers"),
    ({"trigger": KOf(3, (Always(), Never()))}, "KOf of 2 triggers, of which 3 must fire"),
    ({"trigger": KOf(0, (Always(),))}, "KOf of 1 triggers, of which 0 must fire"),
    ({"trigger": AnyOf((Always(), AllOf((Drift(("datum",)),))))},
     r"Policy.trigger.triggers\[1\].triggers\[0\] Drift of the kinds \['datum'\].*data, prediction, label, concept"),
    ({"trigger": Drift(())}, r"Drift of the kinds \[\]"),
    ({"trigger": Schedule(NO_TIME)}, "Schedule.every 0:00:00"),
    ({"trigger": NewLabels(0)}, "NewLabels.rows 0"),
    ({"trigger": PerformanceDrop(0)}, "PerformanceDrop.by 0"),
    ({"trigger": EstimatedDrop(-0.1)}, "EstimatedDrop.by -0.1"),
    ({"trigger": WorthIt(0)}, "WorthIt.nats_per_compute_s 0"),
    ({"trigger": "weekly"}, "'weekly', which is no trigger.*Never, Always, Schedule"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "said"), FAULTS)
def test_a_fault_of_the_policy_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UseCaseError, match=f"(?s)^sample: .*{said}"):
        replace(sample_use_case(), policy=Policy(**wrong)).validate()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(trigger=KOf(2, (AnyOf(EACH), AllOf(EACH)))),
        Policy(segments=("shop", "amount", "hour"), cooldown=NO_TIME, gate=GatePolicy(max_latency_ratio=None)),
        Policy(selections=(Selection(kind="all"), Selection(kind="validated")), drift=DriftPolicy(over=1, of=1)),
    ],
)
def test_a_policy_that_can_be_followed_passes(policy: Policy) -> None:
    replace(sample_use_case(), policy=policy).validate()
