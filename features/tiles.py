"""Tiles: the one arithmetic behind window features, online and offline.

A ring holds one entity's tiles of one window view: int64, shape (slots, 2 + 2m) for m measures. A row is
(tile number, events, then for each measure: values that were not null, and their sum in whole multiples
of the measure's resolution). Tile number k stands in slot k mod slots. Everything is integer addition, so
neither order nor grouping of events changes a bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.definitions import Aggregate, WindowView

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NO_TILE = -(2**62)


@dataclass(frozen=True)
class Increments:
    """What n events add to the tiles of one window view.

    Args:
        tile: tile number of each event, shape (n,).
        amounts: 1, then per measure (1 if not null else 0, quantised value), shape (n, 1 + 2m).
    """

    tile: Ints
    amounts: Ints


def ring_width(view: WindowView) -> int:
    """Integers in one slot of a ring."""
    return 2 + 2 * len(view.measures)


def empty_rings(view: WindowView, n: int) -> Ints:
    """`n` rings without any tile, shape (n, slots, width)."""
    rings = np.zeros((n, view.slots, ring_width(view)), dtype=np.int64)
    rings[:, :, 0] = NO_TILE
    return rings


def increments(view: WindowView, at_us: Ints, fields: dict[str, Floats]) -> Increments:
    """What events add: `at_us` of shape (n,), `fields` the float64 values of each measured field."""
    amounts = np.ones((len(at_us), 1 + 2 * len(view.measures)), dtype=np.int64)
    for i, (field, resolution) in enumerate(view.measures):
        values = fields[field]
        present = ~np.isnan(values)
        amounts[:, 1 + 2 * i] = present
        amounts[:, 2 + 2 * i] = np.rint(np.where(present, values, 0.0) / resolution).astype(np.int64)
    return Increments(at_us // view.tile_us, amounts)


def apply(view: WindowView, rings: Ints, owner: Ints, added: Increments) -> int:
    """Add events to rings in place.

    Each slot ends with the newest tile it was ever given and the sum of all events of that tile, whatever
    the order of events; events of a tile older than the slot's are left out.

    Args:
        view: the window view.
        rings: shape (k, slots, width), changed in place.
        owner: index of each event's ring, shape (n,).
        added: what the n events add.

    Returns:
        How many events were left out.
    """
    slot = added.tile % view.slots
    flat = owner * view.slots + slot
    cells = rings.reshape(-1, rings.shape[2])
    newest = cells[:, 0].copy()
    np.maximum.at(newest, flat, added.tile)
    stale = newest > cells[:, 0]
    cells[stale, 1:] = 0
    cells[:, 0] = newest
    counted = added.tile == newest[flat]
    np.add.at(cells[:, 1:], flat[counted], added.amounts[counted])
    return int(len(counted) - counted.sum())


def fold(view: WindowView, rings: Ints, at_us: Ints) -> Floats:
    """The view's features for n readers, each with its own ring (n, slots, width) and time (n,)."""
    now = (at_us // view.tile_us)[:, None]
    tile = rings[:, :, 0]
    sums = np.empty((len(at_us), len(view.windows), rings.shape[2] - 1), dtype=np.int64)
    for w, length in enumerate(view.window_tiles):
        inside = (tile > now - length) & (tile <= now)
        sums[:, w] = np.einsum("ns,nsc->nc", inside.astype(np.int64), rings[:, :, 1:])
    return values(view, sums)


def values(view: WindowView, sums: Ints) -> Floats:
    """Features from the sums over each window, (n, windows, 1 + 2m) -> (n, windows * aggregates)."""
    columns = [_value(view, aggregate, sums[:, w]) for w in range(len(view.windows)) for aggregate in view.aggregates]
    return np.stack(columns, axis=1)


def _value(view: WindowView, aggregate: Aggregate, sums: Ints) -> Floats:
    if aggregate.field is None:
        return sums[:, 0].astype(np.float64)
    i = view.measures.index((aggregate.field, aggregate.resolution))
    n, total = sums[:, 1 + 2 * i], sums[:, 2 + 2 * i].astype(np.float64) * aggregate.resolution
    if aggregate.kind == "sum":
        return total
    return np.where(n > 0, total / np.maximum(n, 1), aggregate.default)
