"""The stages of a delivery: what a retrain goes through, and a record of how each came out and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar, cast

from core.clock import Clock, SystemClock
from core.decision import Decision

KIND = "delivery"
STAGES = (
    "data_checks", "train", "model_tests", "parity", "scan", "staging", "gate", "register", "rollout", "promote",
    "watch",
)  # fmt: skip
DONE, FAILED, SKIPPED = "done", "failed", "skipped"
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a stage gives back.

    Args:
        value: for the stages after it.
        says: what came of it, one clause for people.
        skipped: whether there was nothing to do.
    """

    value: T
    says: str
    skipped: bool = False


class StageTask(Protocol):
    """A stage that can be run: a Prefect task, or anything else that is called like one."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; gives an Outcome."""
        ...


@dataclass(frozen=True)
class Stage:
    """How one stage came out.

    Args:
        name: of STAGES.
        status: done, failed or skipped.
        started_at: when it began.
        seconds: that it took.
        says: what came of it.
    """

    name: str
    status: str
    started_at: datetime
    seconds: float
    says: str


class Delivery:
    """Runs stages and keeps how they came out.

    Args:
        clock: tells when a stage began.
        monotonic: a clock in seconds that never goes backwards.

    Example:
        >>> class Check:
        ...     name = "data_checks"
        ...     def __call__(self):
        ...         return Outcome(7, "7 rows")
        >>> delivery = Delivery(monotonic=lambda: 0.0)
        >>> delivery.run(Check())
        7
        >>> [stage.says for stage in delivery.stages]
        ['7 rows']
    """

    def __init__(self, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock or SystemClock()
        self._monotonic = monotonic
        self.stages: list[Stage] = []
        self.known: dict[str, Any] = {}

    def run(self, stage: StageTask, *args: Any, **kwargs: Any) -> Any:
        """Run one stage and give back its value; what it raises is kept, and raised."""
        started_at, began = self._clock.now(), self._monotonic()
        try:
            outcome = cast(Outcome[Any], stage(*args, **kwargs))
        except BaseException as problem:
            self._keep(stage.name, FAILED, started_at, began, f"{type(problem).__name__}: {problem}")
            raise
        self._keep(stage.name, SKIPPED if outcome.skipped else DONE, started_at, began, outcome.says)
        return outcome.value

    def skip_rest(self, why: str) -> None:
        """Note that nothing more is done."""
        seen, now = {stage.name for stage in self.stages}, self._clock.now()
        self.stages += [Stage(name, SKIPPED, now, 0.0, why) for name in STAGES if name not in seen]

    @property
    def failed(self) -> Stage | None:
        """The stage that failed, if one did."""
        return next((stage for stage in self.stages if stage.status == FAILED), None)

    def decision(self, action: str, reason: str, known: Mapping[str, Any]) -> Decision:
        """The record of the whole.

        Args:
            action: done, failed or skipped.
            reason: what came of it; of a failure the stage is named.
            known: further evidence.
        """
        stages = [
            {
                "name": stage.name, "status": stage.status, "started_at": stage.started_at.isoformat(),
                "seconds": round(stage.seconds, 3), "says": stage.says,
            }
            for stage in self.stages
        ]  # fmt: skip
        said = f"{self.failed.name}: {reason}" if self.failed else reason
        seconds = sum(stage.seconds for stage in self.stages)
        if action == DONE:
            said = f"{said.rstrip('.')}; all stages took {seconds:.1f} s"
        return Decision(action, said, {"stages": stages, "seconds": round(seconds, 3), **self.known, **known})

    def _keep(self, name: str, status: str, started_at: datetime, began: float, says: str) -> None:
        self.stages.append(Stage(name, status, started_at, self._monotonic() - began, says))


def stages_table(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages of a record as rows for people, in order."""
    return [
        {"stage": each["name"], "status": each["status"], "seconds": f"{each['seconds']:.2f}", "says": each["says"]}
        for each in stages
    ]
