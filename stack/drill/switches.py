"""Rehearsals that make the previous version champion, and the present one again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.errors import DeploymentError
from serving.standing import read_standing
from serving.wanted import CHAMPION
from stack.drill.answers import Answer, first_from
from stack.drill.rehearsal import Rehearsal
from stack.drill.scene import Scene
from stack.drill.verdicts import Expectation
from stack.processes import WEBHOOK_CACHE_S

_BACK_WITHIN_S = 60.0
_CLOCKS_S = 0.5  # more than MLflow's cache needs: it counts from when it last looked


class Switch(Rehearsal):
    """Moves the alias to the previous version, which is warm, and back."""

    switches = True
    _moved_s = 0.0
    _to = ""
    _is_over = False

    def obstacle(self, scene: Scene) -> str | None:
        """Without a previous version, or with one that was taken back, there is nothing to switch to."""
        if scene.previous is None:
            return f"{scene.use_case} has no earlier version to go back to: evergreen retrain {scene.use_case}"
        if read_standing(scene.ledger, scene.use_case).barred.get(CHAMPION) == scene.previous:
            return f"the version before the present one, {scene.previous}, was itself taken back"
        if not scene.may_move:
            return "MLflow runs elsewhere, so no alias is moved there; --external does"
        return None

    def act(self, scene: Scene) -> None:
        """Move the alias."""
        self._move(scene)

    def is_over(self, scene: Scene) -> bool:
        """Whether every gateway asks it; from then on nobody else may answer."""
        if scene.is_live(self._to):
            if not self._is_over:
                scene.expect(self._to)
                self._is_over = True
            return True
        return False

    def recovery_s(self, answers: Sequence[Answer], began_s: float, over_s: float) -> float | None:
        """From the move to the first answer that a client got from it."""
        return first_from(answers, self._to, self._moved_s)

    def facts(self, scene: Scene) -> Mapping[str, Any]:
        """Between which versions."""
        return {"from": scene.live, "to": self._to}

    def restore(self, scene: Scene) -> None:
        """Move it back, and wait until it is so."""
        if self._to and scene.registry.alias(scene.use_case, CHAMPION) == self._to:
            scene.wakes.wake()
            scene.until(lambda: scene.is_free(scene.live), _BACK_WITHIN_S)
            scene.expect(scene.live, self._to)
            scene.make_champion(scene.live, f"as before, {self.name} was rehearsed")
        if scene.until(lambda: scene.is_live(scene.live), _BACK_WITHIN_S) is None:
            raise DeploymentError(f"Version {scene.live} of {scene.use_case} does not answer again.")
        scene.expect(scene.live)

    def _move(self, scene: Scene) -> None:
        self._to = scene.previous or ""
        scene.remember(scene.memo.having(moved=(scene.live, self._to)))
        scene.expect(scene.live, self._to)
        self._moved_s = time.monotonic()
        self._ask(scene)

    def _ask(self, scene: Scene) -> None:
        scene.make_champion(self._to, self.did)


class Rollback(Switch):
    """A person takes the present version back."""

    name = "rollback"
    did = "the present version was rolled back"
    expected = Expectation(within_s=2)

    def _ask(self, scene: Scene) -> None:
        scene.take_back(self.did)


class LostWebhook(Switch):
    """Somebody moves the alias in MLflow, which tells nobody: the deployer finds out by itself."""

    name = "webhook"
    did = "the alias was moved while MLflow told nobody"
    expected = Expectation(within_s=15)
    _last_wake = b""

    def obstacle(self, scene: Scene) -> str | None:
        """Webhooks of an MLflow that runs elsewhere are left alone."""
        if scene.stack.settings.mlflow.url:
            return "MLflow runs elsewhere, so its webhooks are left alone"
        return super().obstacle(scene)

    def prepare(self, scene: Scene) -> None:
        """Disable MLflow's webhooks."""
        silenced = tuple(scene.api.active_webhooks())
        scene.remember(scene.memo.having(silenced=silenced))
        for webhook in silenced:
            scene.api.set_webhook(webhook, active=False)
        if silenced:
            time.sleep(WEBHOOK_CACHE_S + _CLOCKS_S)

    def _ask(self, scene: Scene) -> None:
        self._last_wake = scene.last_wake()
        scene.registry.set_alias(scene.use_case, CHAMPION, self._to)

    def faults(self, scene: Scene) -> Iterator[str]:
        """Nothing may have woken the deployer, or the rehearsal shows nothing."""
        times = scene.wakes_since(self._last_wake)
        if times:
            yield f"the deployer was woken {times} times all the same, so that nothing was lost"

    def facts(self, scene: Scene) -> Mapping[str, Any]:
        """How many webhooks were told nothing."""
        return {**super().facts(scene), "silenced": len(scene.memo.silenced)}

    def restore(self, scene: Scene) -> None:
        """Enable them again."""
        super().restore(scene)
        for webhook in scene.memo.silenced:
            scene.api.set_webhook(webhook, active=True)
        scene.remember(scene.memo.having(silenced=()))


class KilledDeployer(Switch):
    """The deployer is killed when the alias is moved: the next one makes it so."""

    name = "deployer"
    did = "the deployer was killed and the alias was moved"
    expected = Expectation(within_s=60)
    _killed = 0

    def act(self, scene: Scene) -> None:
        """Kill it, and move the alias before the next one is there."""
        self._killed = scene.kill("deployer")
        self._move(scene)

    def is_over(self, scene: Scene) -> bool:
        """Whether another one runs and has done it."""
        return super().is_over(scene) and scene.is_back("deployer", self._killed)
