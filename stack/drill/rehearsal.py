"""What a rehearsal is, and how one is carried out: done, waited for, put back, judged."""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from core.errors import EvergreenError
from stack.drill.answers import Answer, summed_up
from stack.drill.scene import Scene
from stack.drill.trickle import Trickle
from stack.drill.verdicts import FAIL, PASS, SKIP, Expectation, Outcome, faults_of

_PATIENCE_S = 60.0  # how much longer than allowed it is waited, to be able to say how long it took
_SEEN_AFTER = 10  # calls that must have come back before the next thing is done


class Rehearsal(ABC):
    """One thing that is bound to happen.

    Attributes:
        name: for the command line.
        did: what is done, a clause.
        expected: what must hold.
        switches: whether it needs a version to go back to.
    """

    name: str
    did: str
    expected: Expectation
    switches = False

    def obstacle(self, scene: Scene) -> str | None:
        """Why it cannot be rehearsed here; None if it can."""
        return None

    def prepare(self, scene: Scene) -> None:  # noqa: B027 - most need nothing
        """What comes before, and is not measured."""

    @abstractmethod
    def act(self, scene: Scene) -> None:
        """Do it."""

    @abstractmethod
    def is_over(self, scene: Scene) -> bool:
        """Whether everything works again."""

    def recovery_s(self, answers: Sequence[Answer], began_s: float, over_s: float) -> float | None:
        """Seconds it took, given how long it took until it was over, in seconds as well."""
        return over_s

    def facts(self, scene: Scene) -> Mapping[str, Any]:
        """What else is to be reported."""
        return {}

    def faults(self, scene: Scene) -> Iterator[str]:
        """What must not be, besides what clients see; asked before anything is put back."""
        return iter(())

    def restore(self, scene: Scene) -> None:  # noqa: B027 - most leave nothing behind
        """Put back what was before, however far it came. Must be idempotent."""


class Interrupts:
    """Lets SIGINT and SIGTERM end a drill, but not while something is put back."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._shields = 0
        self._asked = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle them for as long as the block runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Let nothing interrupt the block; what was asked meanwhile is done when it ends."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._asked and not self._shields:
            self._asked = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._shields:
            raise KeyboardInterrupt
        self._asked = True
        self._say("What was before is being put back first; wait a moment.")


def rehearse(rehearsal: Rehearsal, scene: Scene, trickle: Trickle, interrupts: Interrupts) -> Outcome:
    """Carry one out.

    Raises:
        KeyboardInterrupt: once what was before is back.
    """
    reason = rehearsal.obstacle(scene)
    if reason is not None:
        return Outcome(rehearsal.name, SKIP, rehearsal.did, str(rehearsal.expected), faults=(reason,))
    faults: list[str] = []
    facts: Mapping[str, Any] = {}
    began_s, over_s = time.monotonic(), None
    try:
        rehearsal.prepare(scene)
        trickle.take()
        scene.phases.clear()
        scene.expect(scene.live)
        began_s = time.monotonic()
        rehearsal.act(scene)
        over_s = scene.until(lambda: rehearsal.is_over(scene), rehearsal.expected.within_s + _PATIENCE_S)
        enough = len(trickle.answers()) + _SEEN_AFTER
        scene.until(lambda: len(trickle.answers()) >= enough, _PATIENCE_S)
        faults += rehearsal.faults(scene)
        facts = rehearsal.facts(scene)
    except EvergreenError as error:
        faults.append(str(error))
    finally:
        with interrupts.shielded():
            scene.until(scene.registry_answers, _PATIENCE_S)
            rehearsal.restore(scene)
    answers = trickle.take()
    seen = summed_up(answers, scene.phases)
    recovery_s = None if over_s is None else rehearsal.recovery_s(answers, began_s, over_s)
    faults += faults_of(rehearsal.expected, recovery_s, seen)
    verdict = FAIL if faults else PASS
    expected = str(rehearsal.expected)
    return Outcome(rehearsal.name, verdict, rehearsal.did, expected, recovery_s, seen, tuple(faults), facts)
