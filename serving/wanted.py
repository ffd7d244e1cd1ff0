"""What aliases and tags say should serve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.errors import DeploymentError
from registry.versions import Desired
from serving.routing import Share

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
PERCENT_TAGS = {CANARY: "evergreen.canary_percent", SHADOW: "evergreen.shadow_percent"}
_DEFAULT_PERCENT = {CANARY: 10.0, SHADOW: 100.0}


class MalformedShare(DeploymentError):
    """A tag does not say how much of the traffic a version is to get."""

    def __init__(self, use_case: str, tag: str, value: str) -> None:
        super().__init__(
            f"{use_case}: the tag {tag} is {value!r}, which is no number from 0 to 100. Serving goes on as it is. "
            f"Set the tag of the registered model {use_case} to one, or delete it."
        )


@dataclass(frozen=True)
class Wanted:
    """What should serve a use case.

    Args:
        champion: the version that answers; None if none is named, or the registry cannot be asked.
        shares: for ``canary`` and ``shadow``: which version gets how much, None for none. A role that is absent
            cannot be told, and stays as it is.
    """

    champion: str | None = None
    shares: Mapping[str, Share | None] = field(default_factory=dict)

    @property
    def named(self) -> set[tuple[str, str]]:
        """Each role that a version is wanted in, with the version."""
        roles = {(role, share.version) for role, share in self.shares.items() if share is not None}
        return roles | ({(CHAMPION, self.champion)} if self.champion is not None else set())


def read_wanted(use_case: str, desired: Desired) -> tuple[Wanted, list[MalformedShare]]:
    """What aliases and tags ask for, and which of the tags cannot be understood.

    Example:
        >>> read_wanted("taxi_tip", Desired({"champion": "7", "canary": "8"}))[0].shares
        {'canary': Share(version='8', percent=10.0), 'shadow': None}
    """
    shares: dict[str, Share | None] = {}
    faults = []
    for role, tag in PERCENT_TAGS.items():
        version = desired.aliases.get(role)
        percent = _percent(desired.tags.get(tag), _DEFAULT_PERCENT[role])
        if version is None:
            shares[role] = None
        elif percent is None:
            faults.append(MalformedShare(use_case, tag, desired.tags[tag]))
        else:
            shares[role] = Share(version, percent)
    return Wanted(desired.aliases.get(CHAMPION), shares), faults


def _percent(text: str | None, default: float) -> float | None:
    if text is None:
        return default
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    return percent if math.isfinite(percent) and 0 <= percent <= 100 else None
