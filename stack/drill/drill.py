"""A drill: what there is to rehearse, one after another, and the way back."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.clock import SystemClock, parse_moment
from core.decision import Decision
from core.errors import StackError
from core.ledger import Ledger
from core.settings import Settings
from serving.torchserve.configuration import store
from serving.torchserve.packer import archive_name, read_smoke
from serving.wanted import CANARY, CHAMPION
from stack.drill.back import put_back, put_right
from stack.drill.losses import DeadWorker, killed_mlflow, killed_redis
from stack.drill.memo import Memo
from stack.drill.rehearsal import Interrupts, Rehearsal, rehearse
from stack.drill.report import as_json, is_passed, said
from stack.drill.scene import KIND, Scene, opened_scene
from stack.drill.spoiled import BadAnswers, BadArtifact
from stack.drill.switches import KilledDeployer, LostWebhook, Rollback
from stack.drill.trickle import Trickle
from stack.drill.verdicts import FAIL, PASS, Outcome
from stack.local import LocalStack

Progress = Callable[[str], None]
"""Told in one line what is being done."""

# Losses first: a version that has just become champion is in its bake, and failures would be held against it.
REHEARSALS: Mapping[str, Callable[[], Rehearsal]] = {
    "worker": DeadWorker,
    "redis": killed_redis,
    "mlflow": killed_mlflow,
    "bad-artifact": BadArtifact,
    "bad-answers": BadAnswers,
    "deployer": KilledDeployer,
    "webhook": LostWebhook,
    "rollback": Rollback,
}


@dataclass(frozen=True)
class Plan:
    """What is to be rehearsed.

    Args:
        use_case: whose versions.
        names: of rehearsals; empty: all.
        per_s: calls per second that clients make meanwhile.
        may_move: whether aliases are moved in an MLflow that runs elsewhere.
    """

    use_case: str
    names: Sequence[str] = ()
    per_s: float = 20.0
    may_move: bool = False

    def rehearsals(self) -> list[Rehearsal]:
        """In the order in which they are carried out."""
        return [make() for name, make in REHEARSALS.items() if not self.names or name in self.names]


def drill(settings: Settings, plan: Plan, progress: Progress) -> list[Outcome]:
    """Rehearse on the running stack, and put back what was before.

    Returns:
        How each went; the last one says whether everything is as it was.

    Raises:
        StackError: if the stack is not in a state to be drilled, or something cannot be put back.
        KeyboardInterrupt: if it was interrupted, once what was before is back.
    """
    stack = LocalStack(settings)
    if not stack.is_up():
        raise StackError(f"The stack in {stack.settings.home} is not up. Run: evergreen up")
    interrupts = Interrupts(progress)
    actor = f"{getpass.getuser()} (evergreen drill)"
    with opened_scene(stack, plan.use_case, actor) as scene, scene.memos.alone(), interrupts.caught():
        put_right(scene, progress)
        rehearsals = plan.rehearsals()
        _set(scene, plan, rehearsals)
        return _carry_out(scene, plan, rehearsals, interrupts, progress)


def choose(named: str | None, live: Mapping[str, bool]) -> str:
    """The use case to drill.

    Args:
        named: by the person; None if by nobody.
        live: use cases that answer, and whether each has an earlier version.

    Raises:
        StackError: if none answers, or it is not clear which one.

    Example:
        >>> choose(None, {"ad_click": False, "taxi_tip": True})
        'taxi_tip'
    """
    if named is not None:
        if named not in live:
            raise StackError(f"No version of {named} answers yet. Train one: evergreen retrain {named}")
        return named
    found = [name for name, has_earlier in live.items() if has_earlier] or list(live)
    if len(found) == 1:
        return found[0]
    if not found:
        raise StackError("No use case has a version that answers yet. Train one: evergreen retrain USE_CASE")
    raise StackError(f"Several use cases answer: {', '.join(sorted(found))}. Say which one: evergreen drill USE_CASE")


def live_use_cases(ledger: Ledger, declared: Sequence[str]) -> dict[str, bool]:
    """Use cases that answer, and whether each has an earlier version to go back to."""
    found = {name: ledger.live(name) for name in declared}
    return {name: live.previous is not None for name, live in found.items() if live is not None}


def _set(scene: Scene, plan: Plan, rehearsals: Sequence[Rehearsal]) -> None:
    """Find out what stands, and whether it can be drilled.

    Raises:
        StackError: naming what is in the way.
    """
    name = scene.use_case
    live, wanted = scene.ledger.live(name), scene.wanted()
    if live is None:
        raise StackError(f"No version of {name} answers yet. Train one: evergreen retrain {name}")
    scene.live, scene.previous = live.version, live.previous
    scene.may_move = plan.may_move or not scene.stack.settings.mlflow.url
    if CANARY in wanted.aliases:
        raise StackError(f"{name} has a canary, which a drill would disturb. End it: evergreen canary {name} --end")
    if wanted.aliases.get(CHAMPION) != live.version or not scene.is_live(live.version):
        raise StackError(
            f"{name} is not settled: MLflow's champion is {wanted.aliases.get(CHAMPION)}, {live.version} answers. "
            "Wait until evergreen status shows the same, then drill."
        )
    if scene.previous is None and rehearsals and all(rehearsal.switches for rehearsal in rehearsals):
        raise StackError(
            f"{name} has no earlier version to go back to. Train and promote a second one: evergreen retrain {name}"
        )
    sick = [process.name for process in scene.stack.processes if not scene.is_back(process.name, 0)]
    if sick:
        raise StackError(f"Not healthy before anything was done: {', '.join(sick)}. See: evergreen status")
    scene.memo = Memo(name, dict(wanted.aliases), dict(wanted.tags))


def _carry_out(
    scene: Scene, plan: Plan, rehearsals: Sequence[Rehearsal], interrupts: Interrupts, progress: Progress
) -> list[Outcome]:
    instances, now = _recorded(scene)
    trickle = Trickle(scene.stack.settings, scene.use_case, instances, per_s=plan.per_s, now=now)
    trickle.require_answers()
    before, outcomes = scene.loaded(), []
    scene.remember(scene.memo)
    names = ", ".join(rehearsal.name for rehearsal in rehearsals)
    _record(scene, Decision("begin", f"drill of {names}", {"rehearsals": [r.name for r in rehearsals]}))
    action = FAIL
    try:
        with trickle:
            try:
                for rehearsal in rehearsals:
                    progress(f"{rehearsal.name}: {rehearsal.did}")
                    outcomes.append(rehearse(rehearsal, scene, trickle, interrupts))
            finally:
                progress("putting back what was before")
                with interrupts.shielded():
                    outcomes.append(put_back(scene, trickle, before))
        action = PASS if is_passed(outcomes) else FAIL
    except KeyboardInterrupt:
        action = "interrupt"
        raise
    finally:
        _record(scene, Decision(action, said(outcomes), {"rehearsals": as_json(outcomes)}))
    return outcomes


def _recorded(scene: Scene) -> tuple[list[dict[str, Any]], datetime]:
    """The live version's recorded requests, and the moment that counts as now where the clock is of events."""
    recorded = read_smoke(store(scene.stack.settings) / archive_name(scene.use_case, scene.live))
    moments = [parse_moment(at) for at in recorded.get("at", []) if isinstance(at, str)]
    moments += [each.as_of for each in scene.ledger.deployments(scene.use_case)]
    return recorded["instances"], max(moments)


def _record(scene: Scene, decision: Decision) -> None:
    now = SystemClock().now()
    scene.ledger.record(scene.use_case, KIND, decision, actor=scene.actor, as_of=now, version=scene.live)
