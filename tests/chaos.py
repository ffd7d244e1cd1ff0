"""Every part of the serving stack is killed under load, and clients that check every answer say what they saw.

``python -m tests.chaos`` does it in full: 20 switches of the version, five kills of each part, one by one. It prints a
table and ends with 1 if anything was lost, wrong or late. ``make test`` runs a short form: two switches, and all parts
whose loss clients must not notice killed at once.
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

from tests.chaos_stack import GATEWAY_TIMEOUT_S, ChaosStack
from tests.recording_client import Record, RecordingClients
from tests.serving_stack import USE_CASE

DEADLINE_S = GATEWAY_TIMEOUT_S + 1.0
"""A call that takes longer has hung."""
PAUSE_S = 0.03
"""Of each of the four clients between two calls: leaves the two cores time for what is started again."""
_KILLS = 5
_SEEN_AFTER = 40  # answers that clients must have got again before the next part is killed
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
            yield from (f"{self.what}: {fault}" for fault in record.faults(DEADLINE_S))
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

    def kill_unnoticed(self, version: str) -> None:
        """Kill at once all that clients must not miss, when the deployer has just been told to switch."""
        workers, gateways = self._stack.worker_pids(), self._stack.gateway_pids()
        pids = {part: self._stack.pid(part) for part in ("mlflow", "deployer")}

        def kill() -> None:
            self._stack.want(version)
            for pid in (*pids.values(), workers[0], gateways[0]):
                _kill(pid)

        def is_over() -> bool:
            back = all(self._stack.is_back(part, pid) for part, pid in pids.items())
            return back and self._stack.is_live(version) and _is_replaced(gateways, self._stack.gateway_pids())

        self._do("all these at once", kill, is_over)

    def _do(self, what: str, action: Callable[[], None], is_over: Callable[[], bool]) -> None:
        began = time.monotonic()
        action()
        self._stack.until(is_over, f"{what}: no recovery")
        recovery_s = time.monotonic() - began
        answered = self._clients.answered() + _SEEN_AFTER
        self._stack.until(lambda: self._clients.answered() >= answered, f"{what}: nobody is answered")
        self._stack.until(self._stack.is_whole, f"{what}: not everything is back")
        seen = self.seen.setdefault(what, Seen(what))
        seen.times += 1
        seen.recovery_s.append(recovery_s)
        seen.records.append(self._clients.fresh())


def in_full(chaos: Chaos, versions: list[str]) -> None:
    """Switch to all versions but the last five, and kill everything five times."""
    for version in versions[:-_KILLS]:
        chaos.switch(version)
    for version in versions[-_KILLS:]:
        chaos.kill_worker()
        chaos.kill("mlflow", "MLflow")
        chaos.kill_deployer(version)
        chaos.kill_gateway()
        chaos.kill("redis", "Redis")
        chaos.kill("torchserve", "JVM")


def in_short(chaos: Chaos, versions: list[str]) -> None:
    """Switch twice and kill everything once."""
    chaos.switch(versions[0])
    chaos.kill_unnoticed(versions[1])
    chaos.kill("redis", "Redis")
    chaos.kill("torchserve", "JVM")


def run(stack: ChaosStack, plan: Callable[[Chaos, list[str]], None], versions: int) -> tuple[list[Seen], list[str]]:
    """Carry a plan out in a running stack.

    Args:
        stack: the stack.
        plan: `in_full` or `in_short`.
        versions: how many there are for it to switch to.

    Returns:
        What clients saw, and what must not have been.
    """
    live = stack.ledger.live(USE_CASE)
    first = live.version if live is not None else stack.register(1)[0]
    others = stack.register(versions)
    stack.want(first)
    stack.until(lambda: stack.is_live(first) and stack.is_whole(), "the first version is not live")
    port = stack.settings.gateway.port
    with RecordingClients(port, stack.biases, pause_s=PAUSE_S, timeout_s=2 * DEADLINE_S, feedback=True) as clients:
        chaos = Chaos(stack, clients)
        plan(chaos, others)
    seen, end = list(chaos.seen.values()), Seen("at the end", records=[clients.record])
    faults = [fault for each in [*seen, end] for fault in each.faults()]
    return seen, faults + _lost(stack, [*seen, end])


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


def _lost(stack: ChaosStack, seen: list[Seen]) -> list[str]:
    """What was acknowledged and is not in Redis."""
    records = [record for each in seen for record in each.records]
    labels = set().union(*(record.labels for record in records))
    predicted = set().union(*(record.predicted for record in records))
    missing = set(predicted)

    def is_logged() -> bool:  # what was spooled while Redis was away comes by and by
        missing.difference_update(stack.stored_predictions())
        return not missing

    faults = []
    try:
        stack.until(is_logged, "not every prediction was logged")
    except AssertionError:
        faults.append(f"{len(missing)} of {len(predicted)} answered calls are not in the prediction log")
    lost = labels - stack.stored_labels()
    if lost:
        faults.append(f"{len(lost)} of {len(labels)} acknowledged labels are lost: {sorted(lost)[:3]}")
    return faults


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _is_replaced(before: list[int], now: list[int]) -> bool:
    return len(now) == len(before) and before[0] not in now


def main() -> int:
    """Do it in full and print what came out; 0 if nothing was lost, wrong or late."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ChaosStack(Path(folder)) as stack:
        seen, faults = run(stack, in_full, versions=20 + _KILLS)
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
