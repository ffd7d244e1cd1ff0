"""Rehearsals that kill something, which is started again by whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stack.drill.rehearsal import Rehearsal
from stack.drill.scene import Scene
from stack.drill.verdicts import Expectation


class DeadWorker(Rehearsal):
    """One of the processes that score for the live version dies; TorchServe starts another."""

    name = "worker"
    did = "a TorchServe worker of the live version was killed"
    expected = Expectation(within_s=120)
    _before: tuple[int, ...] = ()

    def obstacle(self, scene: Scene) -> str | None:
        """A model host that runs elsewhere is left alone."""
        return "the model host runs elsewhere, so it is left alone" if scene.host is None else None

    def act(self, scene: Scene) -> None:
        """Kill one of them."""
        self._before = tuple(scene.workers())
        scene.kill_child("torchserve", self._before[0])

    def is_over(self, scene: Scene) -> bool:
        """Whether there are as many as before, and that one is not among them."""
        now = scene.workers()
        return len(now) >= len(self._before) and self._before[0] not in now

    def facts(self, scene: Scene) -> Mapping[str, Any]:
        """How many there are."""
        return {"workers": len(self._before)}


class KilledProcess(Rehearsal):
    """A process dies; supervisord starts it again.

    Args:
        name: the process.
        expected: what must hold.
    """

    def __init__(self, name: str, expected: Expectation) -> None:
        self.name = name
        self.did = f"the {name} process was killed"
        self.expected = expected
        self._killed = 0

    def obstacle(self, scene: Scene) -> str | None:
        """One that runs elsewhere is left alone."""
        is_ours = any(process.name == self.name for process in scene.stack.processes)
        return None if is_ours else f"{self.name} runs elsewhere, so it is left alone"

    def act(self, scene: Scene) -> None:
        """Kill it."""
        self._killed = scene.kill(self.name)

    def is_over(self, scene: Scene) -> bool:
        """Whether another one does its work, and everything is routed as before."""
        return scene.is_back(self.name, self._killed) and scene.is_live(scene.live)


def killed_redis() -> KilledProcess:
    """Predictions go on without stored features, or wait, until it is back."""
    return KilledProcess("redis", Expectation(within_s=30, errors=None, outage_s=10))


def killed_mlflow() -> KilledProcess:
    """Serving goes on."""
    return KilledProcess("mlflow", Expectation(within_s=120))
