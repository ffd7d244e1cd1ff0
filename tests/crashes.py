"""A deployer kills itself at every write of a rollout, under load, and the next one finishes what it began.

``python -m tests.crashes`` does it in full, with real TorchServe, Redis and MLflow: for the switch of a champion, and
for start, promotion and end of a canary, immediately before and immediately after each write to any station, until a
deployer survives. It prints a table and ends with 1 if anything did not converge within 60 s, was changed by another
deployer afterwards, or was noticed by clients. ``make test`` runs two of the crashes.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serving.routing import Share
from serving.wanted import CANARY, CHAMPION, PERCENT_TAGS
from tests.chaos import DEADLINE_S, PAUSE_S
from tests.chaos_stack import ChaosStack
from tests.doomed_deployer import DoomedDeployer
from tests.recording_client import Record, RecordingClients
from tests.serving_stack import USE_CASE
from tests.serving_state import Goal, disagreements, goal_of, read_state

CONVERGED_WITHIN_S = 60.0
_PERCENT = 25.0
_LOOKS = 3  # rounds in which another deployer must find nothing to do
_SEEN = 20  # answers that clients must get while there is no deployer, and after each crash


@dataclass(frozen=True)
class Cast:
    """Three versions, by what they are now.

    Args:
        live: answers.
        previous: answered before, and is warm.
        other: is neither, and not loaded; it is the canary where there is one.
    """

    live: str
    previous: str
    other: str


@dataclass(frozen=True)
class Aim:
    """Who is to be champion, and who canary if anybody."""

    champion: str
    canary: str | None = None


@dataclass(frozen=True)
class Scenario:
    """One change of what is wanted.

    Args:
        name: for people.
        before: what is wanted first.
        after: what is wanted then.
    """

    name: str
    before: Callable[[Cast], Aim]
    after: Callable[[Cast], Aim]


SWITCH = Scenario("champion switch", lambda cast: Aim(cast.live), lambda cast: Aim(cast.other))
RETURN = Scenario("return to a warm champion", lambda cast: Aim(cast.live), lambda cast: Aim(cast.previous))
START = Scenario("start of a canary", lambda cast: Aim(cast.live), lambda cast: Aim(cast.live, cast.other))
PROMOTION = Scenario(
    "promotion of a canary", lambda cast: Aim(cast.live, cast.other), lambda cast: Aim(cast.other, cast.other)
)
END = Scenario("end of a canary", lambda cast: Aim(cast.live, cast.other), lambda cast: Aim(cast.live))


@dataclass
class Crash:
    """One crash and what came after it.

    Args:
        scenario: what was being done.
        step: which of its writes it happened at, from 1.
        write: what that one was.
        is_before: whether it was not made any more.
        seconds: from the crash until everything agreed; None if that took too long.
        answers: that clients got from the change until everything agreed.
        faults: what must not have been.
    """

    scenario: str
    step: int
    write: str
    is_before: bool
    seconds: float | None = None
    answers: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        when = "before" if self.is_before else "after"
        seconds = "-" if self.seconds is None else f"{self.seconds:.1f}"
        return f"{self.scenario:<26}{self.step:>5}  {self.write:<11}{when:<7}{seconds:>12}{self.answers:>9,}"


HEAD = f"{'scenario':<26}{'step':>5}  {'write':<11}{'crash':<7}{'seconds':>12}{'answers':>9}"


class Crashes:
    """Lets deployers die in a stack under load, and looks at what the next one makes of it.

    Args:
        stack: a running one whose own deployer is stopped, with three versions or more.
        clients: running.
        folder: where deployers' logs go.
    """

    def __init__(self, stack: ChaosStack, clients: RecordingClients, folder: Path) -> None:
        self._stack = stack
        self._clients = clients
        self._folder = folder
        self._numbers = itertools.count(1)
        self.faults: list[str] = []

    def crash(self, scenario: Scenario, step: int, *, is_before: bool) -> Crash | None:
        """Let a deployer die at a write of a scenario, and an ordinary one go on; None if it made fewer writes."""
        deployer = self._settled_deployer()
        self._want(self._goal(scenario.before))
        before, after = self._goal(scenario.before), self._goal(scenario.after)
        deployer.seal(step, is_before=is_before)
        self._stack.until(deployer.is_sealed, "the deployer does not listen")
        self._clients.routes = (before.route, after.route)
        self._take_record("before it")
        self._move(after)
        self._stack.until(lambda: deployer.has_ended() or self._agrees(after), f"{scenario.name}: nothing happens")
        has_crashed, began = deployer.end(), time.monotonic()
        if not has_crashed:
            self._clients.routes = (after.route,)
            self._take_record(f"{scenario.name} without a crash")
            return None
        crash = Crash(scenario.name, step, deployer.writes()[-1], is_before)
        self._await_answers()  # nobody deploys, and everybody is answered
        crash.seconds = self._converge(after, crash, began)
        self._clients.routes = (after.route,)
        record = self._clients.fresh()
        crash.answers = record.answers.total()
        crash.faults += faults_of(record)
        return crash

    def rest(self) -> None:
        """Have another deployer look at the end of everything."""
        self._settled_deployer().end()
        self._take_record("at the end")

    def _settled_deployer(self) -> DoomedDeployer:
        """Another deployer, which must find nothing to do in what the one before left behind."""
        before = read_state(self._stack)
        log = self._folder / f"deployer-{next(self._numbers)}.log"
        deployer = DoomedDeployer(self._stack.settings, log)
        self._stack.until(lambda: deployer.has_ended() or deployer.looks() > _LOOKS, f"no deployer, see {log}")
        if deployer.writes():
            self.faults.append(f"running it again wrote {deployer.writes()}")
        if (now := read_state(self._stack)) != before:
            self.faults.append(f"running it again changed {before} to {now}")
        return deployer

    def _want(self, goal: Goal) -> None:
        """Let a deployer that is not doomed yet bring a change about."""
        self._clients.routes = (read_state(self._stack).route, goal.route)
        self._move(goal)
        self._stack.until(lambda: self._agrees(goal), f"not ready: {goal}")

    def _converge(self, goal: Goal, crash: Crash, began: float) -> float | None:
        """Start the stack's own deployer, and stop it when all is as it should be; seconds since the crash."""
        left_s = began + CONVERGED_WITHIN_S - time.monotonic()
        self._stack.start("deployer")
        try:
            self._stack.until(lambda: self._agrees(goal), "no agreement", left_s)
        except AssertionError as error:
            crash.faults.append(f"{error}: {disagreements(self._stack, goal)}")
            return None
        finally:
            seconds = time.monotonic() - began
            self._stack.stop("deployer")
        return seconds

    def _cast(self) -> Cast:
        live = self._stack.ledger.live(USE_CASE)
        assert live is not None and live.previous is not None
        others = [version for version in self._stack.biases if version not in (live.version, live.previous)]
        return Cast(live.version, live.previous, others[-1])

    def _goal(self, aim: Callable[[Cast], Aim]) -> Goal:
        wanted = aim(self._cast())
        share = Share(wanted.canary, _PERCENT) if wanted.canary else None
        return goal_of(self._stack, champion=wanted.champion, canary=share)

    def _move(self, goal: Goal) -> None:
        tags = {PERCENT_TAGS[CANARY]: f"{_PERCENT:g}"}
        for alias in (CHAMPION, CANARY):
            self._stack.registry.set_alias(USE_CASE, alias, goal.aliases.get(alias), tags)

    def _agrees(self, goal: Goal) -> bool:
        return not disagreements(self._stack, goal)

    def _await_answers(self) -> None:
        answered = self._clients.answered() + _SEEN
        self._stack.until(lambda: self._clients.answered() >= answered, "nobody is answered")

    def _take_record(self, when: str) -> None:
        self.faults += [f"{when}: {fault}" for fault in faults_of(self._clients.fresh())]


@dataclass
class Found:
    """What came out.

    Args:
        crashes: one after the other.
        faults: what must not have been, of all of it.
    """

    crashes: list[Crash]
    faults: list[str]

    def __str__(self) -> str:
        seconds = sorted(crash.seconds for crash in self.crashes if crash.seconds is not None)
        said = f"{len(self.crashes)} crashes, {len(seconds)} of them converged"
        if seconds:
            said += f", in {seconds[len(seconds) // 2]:.1f} s (median) to {seconds[-1]:.1f} s"
        return "\n".join([said, *self.faults] if self.faults else [said, "clients noticed none of them"])


def in_full(crashes: Crashes) -> Iterator[Crash]:
    """Crash at every write of every scenario."""
    for scenario in (SWITCH, START, PROMOTION, END):
        for is_before in (True, False):
            for step in itertools.count(1):
                crash = crashes.crash(scenario, step, is_before=is_before)
                if crash is None:
                    break
                yield crash


def in_short(crashes: Crashes) -> Iterator[Crash]:
    """Crash when the ledger says another champion than the route, and when both do and it was not announced."""
    for step in (1, 3):
        crash = crashes.crash(RETURN, step, is_before=False)
        assert crash is not None, "a return takes four writes"
        yield crash


def run(
    stack: ChaosStack,
    folder: Path,
    plan: Callable[[Crashes], Iterator[Crash]],
    tell: Callable[[Crash], None] = lambda crash: None,
) -> Found:
    """Carry a plan out in a running stack, whose deployer runs again in the end.

    Args:
        stack: the stack.
        folder: where deployers' logs go.
        plan: `in_full` or `in_short`.
        tell: hears of each crash.
    """
    _stage(stack)
    stack.stop("deployer")
    found = []
    port = stack.settings.gateway.port
    with RecordingClients(port, stack.biases, pause_s=PAUSE_S, timeout_s=2 * DEADLINE_S) as clients:
        crashes = Crashes(stack, clients, folder)
        for crash in plan(crashes):
            found.append(crash)
            tell(crash)
            if crash.seconds is None:  # nothing that comes after could be told from its consequences
                break
        else:
            crashes.rest()
    stack.start("deployer")
    stack.until(lambda: stack.pid("deployer") > 0, "the deployer does not start")
    own = [f"{crash.scenario}, {crash.step} {crash.write}: {fault}" for crash in found for fault in crash.faults]
    return Found(found, own + crashes.faults)


def faults_of(record: Record) -> Iterator[str]:
    """What clients must not have seen while nothing but a deployer died."""
    yield from record.faults(DEADLINE_S)
    if record.errors:
        yield f"clients got errors: {dict(record.errors)}"
    if record.repeats:
        yield f"{record.repeats} connections broke"


def _stage(stack: ChaosStack) -> None:
    """Have three versions, of which one is live, one was live before, and no other is loaded."""
    stack.register(max(0, 3 - len(stack.biases)))
    for version in list(stack.biases)[:2]:
        live = stack.ledger.live(USE_CASE)
        if live is None or live.previous is None:
            stack.want(version)
            stack.until(lambda version=version: stack.is_live(version), f"version {version} is not live")
    live = stack.ledger.live(USE_CASE)
    assert live is not None
    goal = goal_of(stack, champion=live.version, canary=None)
    stack.until(lambda: not disagreements(stack, goal), f"the stack is not ready: {goal}")


def main() -> int:
    """Do it in full and print what came out; 0 if all was well."""
    began = time.monotonic()
    print(HEAD, flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory() as folder, ChaosStack(Path(folder)) as stack:
        found = run(stack, Path(folder), in_full, lambda crash: print(crash, flush=True))  # noqa: T201
    print(found)  # noqa: T201
    print(f"{time.monotonic() - began:.0f} s")  # noqa: T201
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
