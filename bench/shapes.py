"""What the online reads ask for. Standard library only: the peers' environment reads it too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """One kind of read.

    Args:
        views: whose values, 20 each.
        entities: of how many at once. With two views an entity is a pair: the same number in both.
    """

    views: tuple[str, ...]
    entities: int


SHAPES = {"pair": Shape(("user", "item"), 1), "hundred": Shape(("user",), 100)}
