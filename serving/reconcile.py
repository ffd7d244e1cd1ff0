"""Deciding what brings serving to what is wanted: pure, so that every situation can be tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.routing import Route, Share
from serving.steps import (
    Announce,
    AwaitPickUp,
    Deploy,
    End,
    Load,
    MoveAlias,
    Publish,
    Release,
    Smoke,
    Split,
    Step,
    Unload,
)
from serving.wanted import CANARY, CHAMPION, SHADOW, Wanted

_ROLES = (CANARY, SHADOW)
Shares = Mapping[str, Share | None]


@dataclass(frozen=True)
class Live:
    """The ledger's newest deployment of a use case.

    Args:
        version: what is to answer.
        generation: its number.
        previous: what answered before; kept warm, so that going back takes no loading.
    """

    version: str
    generation: int
    previous: str | None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything the next steps for one use case depend on.

    Args:
        wanted: what the registry asks for.
        live: the ledger's newest deployment.
        shares: what canary and shadow get by the ledger; an absent role has no version.
        barred: by role, the version that was taken back and may not have the role.
        route: what the gateways are told.
        loaded: versions that answer.
        picked_up: whether all gateways follow the route.
        announced: whether the ledger's newest deployment was recorded as finished.
        refused: versions that are not to be tried (again) now.
        drained: versions, loaded or just packed, that no gateway has waited for in a while.
    """

    wanted: Wanted = field(default_factory=Wanted)
    live: Live | None = None
    shares: Shares = field(default_factory=dict)
    barred: Mapping[str, str] = field(default_factory=dict)
    route: Route | None = None
    loaded: frozenset[str] = frozenset()
    picked_up: bool = True
    announced: bool = True
    refused: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()


def plan(seen: Observed) -> list[Step]:
    """The steps that lead from what is to what is wanted, in order; none if the two agree.

    What answers clients comes first, then the wanted champion, then canary and shadow, then what is merely useful.
    Each step may be repeated, and stopping after any of them leaves a state from which a new plan leads on. A route
    only ever names versions that are loaded, and no version that is routed to is unloaded. What is decided is in the
    ledger before it is routed, so that nothing taken back comes again because the registry was away.

    Example:
        >>> plan(Observed(wanted=Wanted("1")))[:2]
        [Load(version='1', fresh=True), Smoke(version='1')]
    """
    live = seen.live
    if live is None:
        return _switch(seen, {}) or _settle(seen, None)
    is_lost = live.version not in seen.loaded
    if is_lost and live.version in seen.refused:
        return _switch(seen, _kept(seen, live)) or _settle(seen, live)
    kept = _kept(seen, live)
    route = _route(live.version, live.generation, kept)
    steps: list[Step] = [Load(live.version)] if is_lost else []
    steps += _ended(seen, live)
    steps += _direct(seen, route)
    if switch := _switch(seen, kept):
        return steps + switch
    return steps + _share_out(seen, live, route) + _settle(seen, live) + _tell(seen, live)


def _champion(seen: Observed) -> str | None:
    """The version that is to be champion; None if that cannot be told or nobody may be."""
    live, barred, wanted = seen.live, seen.barred.get(CHAMPION), seen.wanted.champion
    wanted = None if wanted == barred else wanted
    if live is not None and live.version == barred and (wanted is None or wanted in seen.refused):
        return live.previous
    return wanted


def _goal(seen: Observed, live: Live, role: str) -> Share | None:
    """Which version is to have a role beside the live one, and how much it is to get."""
    held = seen.shares.get(role)
    goal = seen.wanted.shares.get(role, held)  # absent: the registry is away, or its tag cannot be read
    is_new = held is None or goal is None or goal.version != held.version
    if goal is not None and is_new and goal.version in seen.refused:
        goal = held
    return None if goal is None or goal.version in (live.version, seen.barred.get(role)) else goal


def _goals(seen: Observed, live: Live) -> dict[str, Share]:
    found = {role: _goal(seen, live, role) for role in _ROLES}
    return {role: goal for role, goal in found.items() if goal is not None}


def _kept(seen: Observed, live: Live) -> dict[str, Share]:
    """The shares by the ledger that can be routed at once; one that is replaced stays until the other is there."""
    goals = _goals(seen, live)
    held = {role: share for role, share in seen.shares.items() if share is not None and role in goals}
    return {role: share for role, share in held.items() if share.version in seen.loaded}


def _ended(seen: Observed, live: Live) -> list[Step]:
    goals = _goals(seen, live)
    return [End(role, share.version) for role, share in seen.shares.items() if share is not None and role not in goals]


def _route(version: str, generation: int, shares: Mapping[str, Share]) -> Route:
    others = {role: share for role, share in shares.items() if share.version != version}
    return Route(version, generation, canary=others.get(CANARY), shadow=others.get(SHADOW))


def _direct(seen: Observed, route: Route) -> list[Step]:
    if seen.route != route:
        return [Publish(route), AwaitPickUp(route)]
    return [] if seen.picked_up else [AwaitPickUp(route)]


def _switch(seen: Observed, kept: Mapping[str, Share]) -> list[Step]:
    """Put another champion in the place of the one that is live."""
    wanted, live = _champion(seen), seen.live
    if wanted is None or (live is not None and wanted == live.version):
        return []
    is_return = live is not None and live.version == seen.barred.get(CHAMPION) and wanted == live.previous
    if wanted in seen.refused and not (is_return and wanted in seen.loaded):
        return []
    generation, replaced = (live.generation, live.version) if live else (0, None)
    route = _route(wanted, generation + 1, kept)
    steps: list[Step] = [] if wanted in seen.loaded else [Load(wanted, fresh=not is_return)]
    steps += [] if is_return else [Smoke(wanted)]  # it has answered clients just before
    steps += [Deploy(wanted, generation, replaced, is_return), Publish(route), AwaitPickUp(route)]
    return [*steps, Announce(wanted, generation + 1)]


def _share_out(seen: Observed, live: Live, route: Route) -> list[Step]:
    """Give canary and shadow their share."""
    steps: list[Step] = []
    for role, goal in _goals(seen, live).items():
        held = seen.shares.get(role)
        is_new = held is None or held.version != goal.version
        if goal.version not in seen.loaded:
            if goal.version in seen.refused:
                continue
            steps.append(Load(goal.version, fresh=is_new))
        if is_new:
            steps.append(Smoke(goal.version))
        if held != goal:
            steps.append(Split(role, goal, held))
    final = _final(seen, live)
    return steps if final == route else [*steps, Publish(final), AwaitPickUp(final)]


def _final(seen: Observed, live: Live) -> Route:
    """The route once everything that can be loaded is."""
    there = {role: goal for role, goal in _goals(seen, live).items() if goal.version not in seen.refused - seen.loaded}
    return _route(live.version, live.generation, there)


def _settle(seen: Observed, live: Live | None) -> list[Step]:
    """Once clients get what is wanted: say so, keep the previous version warm, let go of the rest."""
    steps: list[Step] = []
    if live is not None and not seen.announced and (live.version in seen.loaded or live.version not in seen.refused):
        steps.append(Announce(live.version, live.generation))
    previous = live.previous if live else None
    if previous is not None and previous not in seen.loaded and previous not in seen.refused:
        steps.append(Load(previous))
    if live is None or (seen.route == _final(seen, live) and seen.picked_up):
        needed = {previous, *(seen.route.versions if seen.route else ())}
        needed |= {share.version for share in seen.shares.values() if share is not None}  # loaded again, maybe later
        steps += [Unload(version) for version in sorted(seen.drained - needed)]
    return steps


def _tell(seen: Observed, live: Live) -> list[Step]:
    """Take the alias away from what was taken back; once it is gone, a new try is free."""
    steps: list[Step] = []
    named = dict(seen.wanted.named)
    for role, version in sorted(seen.barred.items()):
        if role == CHAMPION and live.version == version:  # it still answers
            continue
        if named.get(role) == version:
            steps.append(MoveAlias(role, version, live.version if role == CHAMPION else None))
        if role in named or role in seen.wanted.shares:
            steps.append(Release(role, version))
    return steps
