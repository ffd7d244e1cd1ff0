"""As-of joins: the newest row of each entity that was known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.offline.grouping import SearchAxis, order_by_group

Ints = npt.NDArray[np.int64]
NO_ROW = -1


def as_of_rows(
    question_entity: Ints, question_known: Ints, row_entity: Ints, row_known: Ints, row_at: Ints, *, entities: int
) -> Ints:
    """For each question the row with the newest moment of its entity that was known; of equal ones, the last given.

    Args:
        question_entity: shape (n,), from 0; `entities` or below 0 for entities without rows.
        question_known: what each question knew: a time, or a number of a publication; shape (n,).
        row_entity: shape (m,), from 0.
        row_known: from when on each row is known, on the questions' scale; shape (m,).
        row_at: moment of each row; shape (m,).
        entities: how many entities there are.

    Returns:
        Places in the rows, shape (n,); `NO_ROW` where nothing was known.

    Example:
        >>> as_of_rows(*(np.array(a) for a in ([0, 0, 1], [5, 9, 9], [0, 0], [4, 8], [40, 80])), entities=1).tolist()
        [0, 1, -1]
    """
    if not len(row_entity):
        return np.full(len(question_entity), NO_ROW, dtype=np.int64)
    order = _by_entity_and_time(row_entity, row_known, entities)
    ends = np.cumsum(np.bincount(row_entity, minlength=entities + 1))
    best = _newest_so_far(row_entity, row_at, order, ends)
    axis = SearchAxis(row_entity, row_known, entities, order)
    del order
    # questions in the rows' order: neighbours are found at neighbouring places, which is worth several times the sort
    asked = np.where(question_entity < 0, entities, question_entity)
    turn = _by_entity_and_time(asked, question_known, entities + 1)
    asked = asked[turn]
    place = axis.upto(asked, question_known[turn]) - 1
    is_known = place >= np.append(0, ends)[asked]
    del axis, asked
    found = np.empty(len(question_entity), dtype=np.int64)
    found[turn] = np.where(is_known, best[place], NO_ROW)
    return found


def _by_entity_and_time(entity: Ints, time: Ints, entities: int) -> Ints:
    if bool(np.all(time[1:] >= time[:-1])):
        return order_by_group(entity, entities)
    by_time = np.argsort(time, kind="stable")
    return by_time[order_by_group(entity[by_time], entities)]


def _newest_so_far(entity: Ints, at: Ints, order: Ints, ends: Ints) -> Ints:
    """For each row, in order of entity and knowledge: the row with the newest moment up to it.

    Args:
        entity: shape (m,).
        at: moment of each row, shape (m,).
        order: the rows by entity and knowledge.
        ends: where each entity's rows end in that order.
    """
    moment = at[order]
    is_newer = moment[1:] >= moment[:-1]
    is_newer &= (moment[1:] > moment[:-1]) | (order[1:] > order[:-1])
    is_newer[ends[(ends > 0) & (ends < len(order))] - 1] = True
    if bool(is_newer.all()):
        return order
    by_rank = np.lexsort((order, moment))
    rank = np.empty(len(order), dtype=np.int64)
    rank[by_rank] = np.arange(len(order))
    start = entity[order] * len(order)
    running = np.maximum.accumulate(start + rank)
    return np.asarray(order[by_rank[running - start]])
