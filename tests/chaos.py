"""Every part of the serving stack is killed under load, and clients that check every answer say what they saw.

``python -m tests.chaos`` does it in full: 20 switches of the version, five kills of each part. It prints a table and
ends with 1 if anything was lost, wrong or late. ``make test`` runs a short form.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos_stack import GATEWAY_TIMEOUT_S, GATEWAYS, ChaosStack
from tests.recording_client import Record, RecordingClients

DEADLINE_S = GATEWAY_TIMEOUT_S + 1.0
"""A call that takes longer has hung."""
_SEEN_AFTER = 50  # answers that clients must have got again before the next part is killed
MAY_FAIL = ("JVM", "Redis")
"""Kills that clients may notice, for as long as `LONGEST_OUTAGE_S`."""
LONGEST_OUTAGE_S = 45.0


@dataclass
class Seen:
    """What clients saw while one thing was done to the stack, again and again.

    Args:
        what: the thing.
        times: how often.
        recovery_s: seconds from each to the moment when everything worked again.
        records: of the clients, one for each.
    """

    what: str
    times: int = 0
    recovery_s: list[float] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Calls that ended in an error."""
        return sum(record.errors.total() for record in self.records)

    @property
    def longest_outage_s(self) -> float:
        """Most seconds between the first error and the last of one time."""
        return max(record.outage_s for record in self.records)

    def faults(self) -> Iterator[str]:
        """What must not be."""
        for record in self.records:
            yield from (f"{self.what}: wrong answer: {wrong}" for wrong in record.wrong[:3])
            if record.slowest_s > DEADLINE_S:
                yield f"{self.what}: a call took {record.slowest_s:.1f} s, more than {DEADLINE_S:.1f} s"
            if record.errors and self.what not in MAY_FAIL:
                yield f"{self.what}: clients got errors: {dict(record.errors)}"
            if record.outage_s > LONGEST_OUTAGE_S:
                yield f"{self.what}: clients got errors for {record.outage_s:.0f} s"


class Chaos:
    """Does something to a stack under load and notes what its clients see.

    Args:
        stack: a running one, with a live version.
        clients: running.
    """

    def __init__(self, stack: ChaosStack, clients: RecordingClients) -> None:
        self._stack = stack
        self._clients = clients
        self.seen: dict[str, Seen] = {}

    def switch(self, version: str) -> None:
        """Make a version the champion and wait until it answers."""
        self._do("switch", lambda: self._stack.want(version), lambda: self._stack.is_live(version))

    def kill_worker(self) -> None:
        """Kill one of the live version's workers."""
        before = self._stack.worker_pids()
        self._do("worker", lambda: _kill(before[0]), lambda: _is_replaced(before, self._stack.worker_pids()))

    def kill_gateway(self) -> None:
        """Kill one of the processes that share the gateway's port."""
        before = self._stack.gateway_pids()
        assert len(before) == GATEWAYS, f"the gateway runs as {before}"
        self._do("gateway process", lambda: _kill(before[0]), lambda: _is_replaced(before, self._stack.gateway_pids()))

    def kill(self, part: str, what: str) -> None:
        """Kill a process that supervisord starts again."""
        pid = self._stack.pid(part)
        self._do(what, lambda: _kill(pid), lambda: self._stack.is_back(part, pid))

    def kill_deployer(self, version: str) -> None:
        """Kill the deployer when it has just been told to switch: the next one does."""
        pid = self._stack.pid("deployer")

        def move() -> None:
            self._stack.want(version)
            _kill(pid)

        self._do("deployer", move, lambda: self._stack.is_back("deployer", pid) and self._stack.is_live(version))

    def _do(self, what: str, action: Callable[[], None], is_over: Callable[[], bool]) -> None:
        self._clients.fresh()
        began = time.monotonic()
        action()
        self._stack.until(is_over, f"{what}: no recovery")
        recovery_s = time.monotonic() - began
        answered = self._clients.answered() + _SEEN_AFTER
        self._stack.until(lambda: self._clients.answered() >= answered, f"{what}: nobody is answered")
        seen = self.seen.setdefault(what, Seen(what))
        seen.times += 1
        seen.recovery_s.append(recovery_s)
        seen.records.append(self._clients.fresh())


def run(folder: Path, *, switches: int, kills: int) -> tuple[list[Seen], list[str]]:
    """Start a stack in a folder, do all of it, and take the stack down.

    Args:
        folder: an empty one.
        switches: how many of the version.
        kills: how many of each part.

    Returns:
        What clients saw, and what must not have been.
    """
    with ChaosStack(folder) as stack:
        first, *others = stack.register(1 + switches + kills)
        stack.want(first)
        stack.until(lambda: stack.is_live(first), "the first version is not live")
        everything = Record()
        with RecordingClients(
            stack.settings.gateway.port, stack.biases, timeout_s=2 * DEADLINE_S, feedback=True
        ) as clients:
            chaos = Chaos(stack, clients)
            for version in others[:switches]:
                chaos.switch(version)
            for version in others[switches:]:
                chaos.kill_worker()
                chaos.kill("mlflow", "MLflow")
                chaos.kill_deployer(version)
                chaos.kill_gateway()
                chaos.kill("redis", "Redis")
                chaos.kill("torchserve", "JVM")
        for seen in chaos.seen.values():
            for record in [*seen.records]:
                everything.labels |= record.labels
                everything.predicted |= record.predicted
        seen = list(chaos.seen.values())
        faults = [fault for each in seen for fault in each.faults()]
        return seen, faults + _lost(stack, everything)


def table(seen: list[Seen]) -> str:
    """The measured numbers, one line for each thing that was done."""
    head = ("what", "times", "answers", "errors", "outage s", "recovery s", "slowest s", "repeats")
    lines = [f"{head[0]:<16}" + "".join(f"{name:>12}" for name in head[1:])]
    for each in seen:
        answers = sum(record.answers.total() for record in each.records)
        repeats = sum(record.repeats for record in each.records)
        slowest = max(record.slowest_s for record in each.records)
        recovery = sorted(each.recovery_s)[len(each.recovery_s) // 2]
        values = (f"{each.times}", f"{answers:,}", f"{each.errors}", f"{each.longest_outage_s:.2f}")
        values += (f"{recovery:.2f}", f"{slowest:.2f}", f"{repeats}")
        lines.append(f"{each.what:<16}" + "".join(f"{value:>12}" for value in values))
    return "\n".join(lines)


def _lost(stack: ChaosStack, everything: Record) -> list[str]:
    """What was acknowledged and is not in Redis."""
    faults = []
    labels = everything.labels - stack.stored_labels()
    if labels:
        faults.append(f"{len(labels)} of {len(everything.labels)} acknowledged labels are lost: {sorted(labels)[:3]}")
    missing = set(everything.predicted)

    def is_logged() -> bool:
        missing.difference_update(stack.stored_predictions())
        return not missing

    try:
        stack.until(is_logged, "predictions are not in the log")
    except AssertionError:
        faults.append(f"{len(missing)} of {len(everything.predicted)} answered calls are not in the prediction log")
    return faults


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _is_replaced(before: list[int], now: list[int]) -> bool:
    return len(now) == len(before) and before[0] not in now


def main() -> int:
    """Do it in full and print what came out; 0 if nothing was lost, wrong or late."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seen, faults = run(Path(folder), switches=20, kills=5)
    print(table(seen))  # noqa: T201
    for each in seen:
        for record in each.records:
            if record.errors:
                print(f"{each.what}: {dict(record.errors)}")  # noqa: T201
    print("\n".join(faults) or "nothing was lost, wrong or late")  # noqa: T201
    print(f"{time.monotonic() - began:.0f} s")  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
