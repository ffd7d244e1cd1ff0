"""Features: as-of joins, windows and online reads, each beside its peers on the same data in the same call."""

from __future__ import annotations

from bench import joins, online, windows
from bench.measure import Result


def run() -> list[Result]:
    """Measure."""
    return [*joins.run(), *windows.run(), *online.run()]
