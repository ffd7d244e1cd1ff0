"""A delivery keeps how each stage came out, and for how long, also when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from core.clock import ManualClock
from flows import steps
from flows.stages import DONE, FAILED, SKIPPED, STAGES, Delivery, Outcome, stages_table

NOW = datetime(2019, 2, 5, tzinfo=UTC)


class Step:
    """A stage that does what it is told."""

    def __init__(self, name: str, does: Callable[[], Any]) -> None:
        self.name, self._does = name, does

    def __call__(self) -> Any:
        return self._does()


@pytest.fixture
def delivery() -> Delivery:
    """Each look at the clock is two seconds after the one before."""
    ticks: Iterator[int] = count(0, 2)
    return Delivery(ManualClock(NOW), lambda: float(next(ticks)))


def test_a_delivery_says_what_came_of_each_stage(delivery: Delivery) -> None:
    assert delivery.run(Step("data_checks", lambda: Outcome(7, "7 rows"))) == 7
    assert delivery.run(Step("staging", lambda: Outcome(None, "no host", skipped=True))) is None
    delivery.skip_rest("kept")

    decision = delivery.decision("done", "version 4: keep", {"decision_id": "1"})

    first, second, *rest = decision.evidence["stages"]
    assert first == {
        "name": "data_checks", "status": DONE, "started_at": NOW.isoformat(), "seconds": 2.0, "says": "7 rows",
    }  # fmt: skip
    assert (second["name"], second["status"], second["says"]) == ("staging", SKIPPED, "no host")
    assert {stage["status"] for stage in rest} == {SKIPPED} and {stage["seconds"] for stage in rest} == {0.0}
    assert sorted(stage["name"] for stage in decision.evidence["stages"]) == sorted(STAGES)
    assert decision.evidence["decision_id"] == "1"
    assert stages_table(decision.evidence["stages"])[0] == {
        "stage": "data_checks", "status": DONE, "seconds": "2.00", "says": "7 rows",
    }  # fmt: skip


def test_a_stage_that_fails_is_named_with_its_cause(delivery: Delivery) -> None:
    delivery.run(Step("data_checks", lambda: Outcome(7, "7 rows")))

    with pytest.raises(ZeroDivisionError):
        delivery.run(Step("train", lambda: 1 / 0))

    assert delivery.failed is not None and delivery.failed.name == "train"
    decision = delivery.decision("failed", "ZeroDivisionError: division by zero", {})
    assert decision.reason == "train: ZeroDivisionError: division by zero"
    assert decision.evidence["stages"][-1]["status"] == FAILED
    assert decision.evidence["stages"][-1]["says"] == "ZeroDivisionError: division by zero"


def test_every_stage_is_a_task_of_its_name() -> None:
    tasks = (
        steps.data_checks, steps.train, steps.model_tests, steps.parity, steps.scan, steps.staging, steps.gate,
        steps.register, steps.rollout, steps.promotion, steps.watch,
    )  # fmt: skip
    assert tuple(task.name for task in tasks) == STAGES
