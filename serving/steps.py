"""The steps by which serving changes. Each may be repeated."""

from __future__ import annotations

from dataclasses import dataclass

from serving.routing import Route, Share


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
    """Write the switch to the ledger, if nobody deployed since `expected_generation`.

    Args:
        version: what is to answer.
        expected_generation: the newest deployment's.
        previous: what answered before.
        is_return: whether `previous` was taken back, so that nobody needs to be asked about `version`.
    """

    version: str
    expected_generation: int
    previous: str | None
    is_return: bool = False


@dataclass(frozen=True)
class Split:
    """Write to the ledger that a version gets a share of the traffic from now on, in the role of canary or shadow."""

    role: str
    share: Share
    was: Share | None


@dataclass(frozen=True)
class End:
    """Write to the ledger that a version has that role no longer."""

    role: str
    version: str


@dataclass(frozen=True)
class Publish:
    """Send predictions to loaded versions."""

    route: Route


@dataclass(frozen=True)
class AwaitPickUp:
    """Wait until every gateway follows."""

    route: Route


@dataclass(frozen=True)
class Announce:
    """Record a finished deployment with what it took."""

    version: str
    generation: int


@dataclass(frozen=True)
class MoveAlias:
    """Let the registry say what was decided here: take an alias away from a version that was taken back."""

    alias: str
    version: str
    to: str | None


@dataclass(frozen=True)
class Release:
    """Write to the ledger that a version that was taken back may be tried again: its alias was gone."""

    role: str
    version: str


@dataclass(frozen=True)
class Unload:
    """Let go of a version that nobody asks any more."""

    version: str


Step = Load | Smoke | Deploy | Split | End | Publish | AwaitPickUp | Announce | MoveAlias | Release | Unload
