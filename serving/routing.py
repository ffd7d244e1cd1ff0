"""Which versions answer for a use case, and for whom: written by the deployer, followed by every gateway."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson

_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """A version and how much of the traffic it gets.

    Args:
        version: the version.
        percent: 0 to 100, of the entities (canary) or of the requests (shadow).
    """

    version: str
    percent: float


@dataclass(frozen=True, slots=True)
class Route:
    """Where a use case's predictions go.

    Args:
        version: the champion, which answers whoever no canary answers.
        generation: the ledger's number of the deployment that put it there.
        canary: a version that answers a share of the entities, always the same ones.
        shadow: a version that is asked too, and never answers a client.
        at: ISO 8601 moment since when the route stands; says nothing about where predictions go.

    Example:
        >>> route = Route("7", 12, canary=Share("8", 25))
        >>> Route.decode(route.encode()) == route
        True
        >>> sum(route.version_for("taxi_tip", str(i)) == "8" for i in range(10_000)) in range(2_300, 2_700)
        True
    """

    version: str
    generation: int
    canary: Share | None = None
    shadow: Share | None = None
    at: str = field(default="", compare=False)

    @property
    def stamp(self) -> str:
        """A short text that differs whenever predictions go elsewhere, by which gateways say what they follow."""
        return f"{self.generation}:{self.version}:{_text(self.canary)}:{_text(self.shadow)}"

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that is asked, the champion first."""
        shares = (self.canary, self.shadow)
        return tuple(dict.fromkeys([self.version, *(share.version for share in shares if share)]))

    def version_for(self, use_case: str, entity: str) -> str:
        """The version that answers for an entity: the same one for as long as the canary's share does not shrink."""
        canary = self.canary
        if canary is None or bucket(use_case, canary.version, entity) >= canary.percent * (_BUCKETS // 100):
            return self.version
        return canary.version

    def encode(self) -> bytes:
        """As JSON."""
        entry: dict[str, Any] = {"version": self.version, "generation": self.generation, "at": self.at}
        for name, share in (("canary", self.canary), ("shadow", self.shadow)):
            if share is not None:
                entry[name] = {"version": share.version, "percent": share.percent}
        return orjson.dumps(entry)

    @classmethod
    def decode(cls, raw: bytes) -> Route:
        """From JSON.

        Raises:
            ValueError: if it is no route.
        """
        try:
            entry = orjson.loads(raw)
            shares = {name: _share(entry.get(name)) for name in ("canary", "shadow")}
            return cls(str(entry["version"]), int(entry["generation"]), at=str(entry.get("at", "")), **shares)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no route: {raw[:200]!r}") from error


def bucket(use_case: str, version: str, entity: str) -> int:
    """A number from 0 to 9999 that is the same whenever the same entity is asked about.

    The version takes part in it, so that not always the same entities are the first to get something new.
    """
    return zlib.crc32(f"{use_case}\x00{version}\x00{entity}".encode()) % _BUCKETS


def _share(entry: Any) -> Share | None:
    return None if entry is None else Share(str(entry["version"]), float(entry["percent"]))


def _text(share: Share | None) -> str:
    return f"{share.version}@{share.percent:g}" if share else ""
