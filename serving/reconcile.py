"""Deciding what brings serving to what is wanted: pure, so that every situation can be tried."""

from __future__ import annotations

from dataclasses import dataclass

from serving.routes import Route


@dataclass(frozen=True)
class Load:
    """Register a version with the model host.

    Args:
        version: which.
        fresh: fetch it from the registry even if its archive is at hand.
    """

    version: str
    fresh: bool = False


@dataclass(frozen=True)
class Smoke:
    """Ask a loaded version its recorded requests."""

    version: str


@dataclass(frozen=True)
class Deploy:
    """Write the switch to the ledger, if nobody deployed since `expected_generation`."""

    version: str
    expected_generation: int
    previous: str | None


@dataclass(frozen=True)
class Publish:
    """Send predictions to a loaded version."""

    version: str
    generation: int


@dataclass(frozen=True)
class AwaitPickUp:
    """Wait until every gateway follows."""

    version: str
    generation: int


@dataclass(frozen=True)
class Announce:
    """Record a finished deployment with what it took."""

    version: str
    generation: int


@dataclass(frozen=True)
class Unload:
    """Let go of a version that nobody asks any more."""

    version: str


Step = Load | Smoke | Deploy | Publish | AwaitPickUp | Announce | Unload


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
        desired: the champion; None if there is none or the registry cannot be asked.
        live: the ledger's newest deployment.
        route: what the gateways are told.
        loaded: versions that answer.
        picked_up: whether all gateways follow the route.
        announced: whether the ledger's newest deployment was recorded as finished.
        refused: versions that are not to be tried (again) now.
        drained: versions that no gateway has waited for in a while.
    """

    desired: str | None = None
    live: Live | None = None
    route: Route | None = None
    loaded: frozenset[str] = frozenset()
    picked_up: bool = True
    announced: bool = True
    refused: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()


def plan(seen: Observed) -> list[Step]:
    """The steps that lead from what is to what is wanted, in order; none if the two agree.

    What answers clients comes first, then the wanted version, then what is merely useful. Each step may
    be repeated, and stopping after any of them leaves a state from which a new plan leads on. A route is
    only ever published to a version that is loaded, and no version that is routed to is unloaded.

    Example:
        >>> plan(Observed(desired="1"))[:2]
        [Load(version='1', fresh=True), Smoke(version='1')]
    """
    steps = _restore(seen)
    switch = _switch(seen)
    steps += switch
    if not switch:
        steps += _settle(seen)
    return steps


def _restore(seen: Observed) -> list[Step]:
    """Make the ledger's newest deployment true."""
    live = seen.live
    if live is None:
        return []
    steps: list[Step] = []
    if live.version not in seen.loaded:
        if live.version in seen.refused:
            return []
        steps.append(Load(live.version))
    if seen.route != Route(live.version, live.generation):
        steps += [Publish(live.version, live.generation), AwaitPickUp(live.version, live.generation)]
    elif not seen.picked_up:
        steps.append(AwaitPickUp(live.version, live.generation))
    return steps


def _switch(seen: Observed) -> list[Step]:
    """Put the wanted version in the place of the one that is live."""
    wanted, live = seen.desired, seen.live
    if wanted is None or wanted in seen.refused or (live is not None and wanted == live.version):
        return []
    steps: list[Step] = [] if wanted in seen.loaded else [Load(wanted, fresh=True)]
    generation = live.generation if live else 0
    return [
        *steps,
        Smoke(wanted),
        Deploy(wanted, generation, live.version if live else None),
        Publish(wanted, generation + 1),
        AwaitPickUp(wanted, generation + 1),
        Announce(wanted, generation + 1),
    ]


def _settle(seen: Observed) -> list[Step]:
    """Once clients get what is wanted: say so, keep the previous version warm, let go of the rest."""
    live = seen.live
    steps: list[Step] = []
    if live is not None and not seen.announced and (live.version in seen.loaded or live.version not in seen.refused):
        steps.append(Announce(live.version, live.generation))
    previous = live.previous if live else None
    if previous is not None and previous not in seen.loaded and previous not in seen.refused:
        steps.append(Load(previous))
    routed = seen.route.version if seen.route else None
    if live is None or (seen.route == Route(live.version, live.generation) and seen.picked_up):
        needed = {live.version if live else None, previous, routed}
        steps += [Unload(version) for version in sorted(seen.loaded & seen.drained - needed)]
    return steps
