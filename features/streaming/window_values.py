"""New values of window views from old ones and the rows of new events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import tiles
from features.online.packing import pack_windows, unpack_each
from features.streams import entity_text
from features.views import WindowView

Ints = npt.NDArray[np.int64]


def entity_codes(columns: Sequence[tuple[Ints, Sequence[Any]]]) -> tuple[Ints, list[str]]:
    """Number the entities of n events.

    Args:
        columns: of each entity field, which of its values each event has, shape (n,), -1 for null; and the values.

    Returns:
        The entity of each event, -1 where a field is null, and what each entity is called.
    """
    codes, values = columns[0]
    if len(columns) == 1:
        return codes, [str(value) for value in values]
    is_null = np.any([codes < 0 for codes, _ in columns], axis=0)
    sizes = [max(1, len(values)) for _, values in columns]
    joint = np.ravel_multi_index([np.where(is_null, 0, codes) for codes, _ in columns], sizes)
    found, numbers = np.unique(joint[~is_null], return_inverse=True)
    entities = np.full(len(joint), -1, dtype=np.int64)
    entities[~is_null] = numbers
    picks = [pick.tolist() for pick in np.unravel_index(found, sizes)]
    parts = [[values[i] for i in pick] for (_, values), pick in zip(columns, picks, strict=True)]
    return entities, [entity_text(entity) for entity in zip(*parts, strict=True)]


def coded_values(values: npt.NDArray[Any]) -> tuple[Ints, list[Any]]:
    """Number the values of a column, int64 or objects with None for null."""
    codes, found = pd.factorize(values)
    return codes.astype(np.int64, copy=False), found.tolist()


def extend(view: WindowView, held: tuple[Ints, Ints], fresh: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """As `tiles.merge` of both, in time that hardly depends on what is held.

    Args:
        view: the window view.
        held: owners and rows, as `tiles.merge` returned them.
        fresh: owners and rows in any order.
    """
    (owner, rows), (new_owner, new_rows) = held, fresh
    low = min(int(tile.min()) for tile in (rows[:, 0], new_rows[:, 0]) if len(tile))
    span = max(int(tile.max()) for tile in (rows[:, 0], new_rows[:, 0]) if len(tile)) - low + 1
    place = new_owner * span + (new_rows[:, 0] - low)
    order = np.argsort(place, kind="stable")
    place = place[order]
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    added, place = tiles.combine(view, new_rows[order], starts), place[starts]
    held_place = owner * span + (rows[:, 0] - low)
    at = np.searchsorted(held_place, place)
    is_held = np.zeros(len(place), dtype=bool)
    inside = at < len(held_place)
    is_held[inside] = held_place[at[inside]] == place[inside]
    _add(view, rows, at[is_held], added[is_held])
    owner = np.insert(owner, at[~is_held], place[~is_held] // span)
    rows = np.insert(rows, at[~is_held], added[~is_held], axis=0)
    return within_reach(view, owner, rows)


def within_reach(view: WindowView, owner: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Those of the sorted rows that no newer row of their owner has put out of reach."""
    newest = np.empty(int(owner[-1]) + 1, dtype=np.int64)
    newest[owner] = rows[:, 0]
    kept = rows[:, 0] > newest[owner] - view.slots
    return (owner, rows) if kept.all() else (owner[kept], rows[kept])


def updated(
    view: WindowView, held: Sequence[bytes | None], owner: Ints, rows: Ints, positions: Ints
) -> tuple[Ints, bytes]:
    """New packed values of n entities.

    Args:
        view: the window view.
        held: their present values; None or empty where there is none.
        owner: the entity of each row, shape (k,).
        rows: of new events, shape (k, width).
        positions: of the last entry that touched each entity, shape (n,).

    Returns:
        Lengths of the new values and the values joined.
    """
    _, old_owner, old_rows = unpack_each(held, width=tiles.layout(view).width)
    owner, rows = extend(view, (old_owner, old_rows), (owner, rows))
    return pack_windows(positions, owner, rows)


def measured(view: WindowView, columns: Mapping[str, npt.NDArray[Any]], picked: Any) -> dict[str, npt.NDArray[Any]]:
    """The fields that a view's aggregates read, of some events: float64, or objects of str."""
    names = dict.fromkeys(name for a in view.aggregates for name in (a.field, a.over) if name is not None)
    found = {name: columns[name][picked] for name in names}
    return {name: v if v.dtype == object else v.astype(np.float64, copy=False) for name, v in found.items()}


def _add(view: WindowView, rows: Ints, at: Ints, added: Ints) -> None:
    if not len(at):
        return
    if tiles.layout(view).is_additive:
        rows[at, 1:] += added[:, 1:]
        return
    pairs = np.empty((2 * len(at), rows.shape[1]), dtype=np.int64)
    pairs[0::2], pairs[1::2] = rows[at], added
    rows[at] = tiles.combine(view, pairs, np.arange(0, len(pairs), 2))
