"""The way back from a drill: whatever it changed is put back, and compared with what was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from core.errors import EvergreenError, StackError
from serving.wanted import CANARY, CHAMPION, PERCENT_TAGS
from stack.drill.answers import summed_up
from stack.drill.memo import Memo
from stack.drill.scene import Scene
from stack.drill.trickle import Trickle
from stack.drill.verdicts import FAIL, PASS, Outcome

_WITHIN_S = 60.0
_PERCENT = PERCENT_TAGS[CANARY]


def put_back(scene: Scene, trickle: Trickle, loaded: set[str]) -> Outcome:
    """Put back whatever is not yet as it was, and say whether it is."""
    began_s = time.monotonic()
    trickle.take()
    scene.phases.clear()
    scene.expect(scene.live, scene.previous)
    scene.until(scene.registry_answers, _WITHIN_S)
    faults = _undo(scene, scene.memo)
    warm = loaded & {scene.live, scene.previous}  # others may have been on their way out before the drill

    def is_as_before() -> bool:
        states = scene.stack.supervisor.states()
        wanted = scene.wanted()
        return (
            scene.is_live(scene.live)
            and _touched(wanted.aliases, wanted.tags) == _touched(scene.memo.aliases, scene.memo.tags)
            and warm <= scene.loaded()
            and not scene.loaded() & set(scene.memo.made)
            and all(states[process.name].state == "RUNNING" for process in scene.stack.processes)
        )

    taken_s = scene.until(is_as_before, _WITHIN_S)
    if taken_s is None:
        faults.append("not everything is as it was; see: evergreen status")
    elif not faults:
        scene.memos.forget()
    seen = summed_up(trickle.take(), scene.phases)
    faults += [f"{count} client calls failed: {problem}" for problem, count in seen.errors.items()]
    verdict = FAIL if faults else PASS
    expected = "aliases, tags, versions and processes as before"
    took_s = None if taken_s is None else time.monotonic() - began_s
    return Outcome("as before", verdict, "what was before was put back", expected, took_s, seen, tuple(faults))


def _touched(aliases: Mapping[str, str], tags: Mapping[str, str]) -> tuple[str | None, ...]:
    """What a drill changes; the rest may change by itself meanwhile."""
    return aliases.get(CHAMPION), aliases.get(CANARY), tags.get(_PERCENT)


def put_right(scene: Scene, progress: Callable[[str], None]) -> None:
    """Put back what a drill left behind that was killed.

    Raises:
        StackError: if it cannot be.
    """
    memo = scene.memos.read()
    if memo is None:
        return
    progress(f"putting right what an earlier drill of {memo.use_case} left behind")
    scene.until(scene.registry_answers, _WITHIN_S)
    faults = _undo(scene, memo)
    if faults:
        raise StackError(f"What an earlier drill left behind cannot be put right: {'; '.join(faults)}")
    live = memo.aliases.get(CHAMPION)
    if memo.use_case == scene.use_case and live is not None:
        scene.until(lambda: scene.is_live(live), _WITHIN_S)
    scene.memos.forget()


def _undo(scene: Scene, memo: Memo) -> list[str]:
    """Undo in MLflow what a memo says was done there; whatever is undone already is left alone.

    Returns:
        What could not be.
    """
    name, faults = memo.use_case, []

    def aliases() -> None:
        champion, before = scene.registry.alias(name, CHAMPION), memo.aliases.get(CHAMPION)
        if champion != before and champion in memo.moved and before is not None:
            scene.wakes.wake()
            scene.until(lambda: scene.is_free(before), _WITHIN_S)
            scene.promotions.promote(name, before, actor=scene.actor, reason="drill: as before")
        if scene.registry.alias(name, CANARY) in memo.made:
            scene.registry.set_alias(name, CANARY, None)

    undone: list[tuple[str, Callable[[], None]]] = [("aliases", aliases)]
    if memo.made:
        undone += [("a tag", partial(scene.api.set_tag, name, _PERCENT, memo.tags.get(_PERCENT)))]
    undone += [(f"webhook {hook}", partial(scene.api.set_webhook, hook, active=True)) for hook in memo.silenced]
    undone += [(f"version {made}", partial(scene.api.delete_version, name, made)) for made in memo.made]
    for what, undo in undone:
        try:
            undo()
        except EvergreenError as error:
            faults.append(f"{what}: {error}")
    return faults
