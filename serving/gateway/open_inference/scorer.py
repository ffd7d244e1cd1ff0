"""What the protocol's endpoints need of the gateway: who answers for a use case, and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Asked:
    """What one client asks: n clean instances.

    Args:
        use_case: of which use case.
        instances: with every declared field.
        at_us: the moment each is asked for, microseconds since 1970 UTC.
        now_us: the moment of the call.
        version: the version that shall answer; None: whichever answers this client.
        timeout_s: seconds the client allows; None: as long as the gateway does.
        log: whether the answer goes to the prediction log.
    """

    use_case: str
    instances: list[dict[str, Any]]
    at_us: list[int]
    now_us: int
    version: str | None = None
    timeout_s: float | None = None
    log: bool = True


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores for n instances.

    Args:
        scores: n probabilities; None where the model gave no finite score.
        ids: n prediction ids.
        degraded: n lists of reasons, empty where nothing was missing.
        version: the version that answered.
    """

    scores: Sequence[float | None]
    ids: Sequence[str]
    degraded: Sequence[Sequence[str]]
    version: str


Done = Callable[[Scored | BaseException], None]


class Scorer(Protocol):
    """Scores instances with versions that are live."""

    def versions(self, use_case: str) -> Sequence[str]:
        """The versions that answer clients now, the one that answers most first; none if nothing is live."""
        ...

    def require_room(self, use_case: str) -> None:
        """Refuse a call before it is even read, if it would wait too long.

        Raises:
            Overloaded: if it would.
        """
        ...

    def ask(self, asked: Asked, done: Done) -> None:
        """Have instances scored; `done` is called now or later, once unless this raises, with what came of it.

        Raises:
            NoLiveVersion: if nothing answers for the use case yet.
            Overloaded: if it would wait too long.
        """
        ...

    async def check(self) -> None:
        """Return if requests can be answered.

        Raises:
            Unavailable: naming what is away.
        """
        ...
