"""The columns of batch views for past questions: which published row each of them saw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.use_case import UseCase
from features.batch.published import NEVER_US, TIMELESS_US, batch_values
from features.definitions import view_digest
from features.offline.as_of import NO_ROW, as_of_rows
from features.offline.grouping import coded, text_codes
from features.offline.log import OfflineLog
from features.offline.questions import Questions, in_parallel
from features.views import BatchView

Ints = npt.NDArray[np.int64]


def fill_batch(
    log: OfflineLog, use_case: UseCase, view: BatchView, questions: Questions, target: npt.NDArray[Any]
) -> None:
    """Fill in a batch view.

    Args:
        log: the offline log.
        use_case: whose view.
        view: the view.
        questions: n questions.
        target: where its values go, shape (n, outputs).
    """
    published = log.published(use_case.name, view.name, view_digest(use_case.name, view))
    known = questions.known(use_case, view)
    stored = published.keys(has_generation=known is not None)
    if not stored.num_rows:
        target[:] = view.defaults
        questions.done(len(questions))
        return
    row_at_us = _microseconds(stored["at"])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(published.outputs, view.outputs)
        found = _rows_seen(stored, row_at_us, view, questions, known)
        del stored
        outputs = reading.result()
    pa.default_memory_pool().release_unused()  # the result takes its place

    def fill(block: slice) -> None:
        place = found[block]
        moment = np.where(place == NO_ROW, NEVER_US, row_at_us[place])
        rows = np.take(outputs, place, axis=0, mode="clip")  # where there is none, defaults take the place of any
        target[block] = batch_values(view, moment, rows, questions.at_us[block])[0]
        questions.done(len(place))

    in_parallel(fill, list(questions.blocks()))


def _rows_seen(stored: pa.Table, row_at_us: Ints, view: BatchView, questions: Questions, known: Ints | None) -> Ints:
    """The row each question saw, `NO_ROW` where there was none."""
    held = coded(stored["entity"])
    entity = text_codes([questions.coded(key) for key in view.keys], held.values)

    def as_of(asked: Ints, row_known: Ints, where: Any) -> Ints:
        return as_of_rows(entity[where], asked[where], held.codes, row_known, row_at_us, entities=len(held.values))

    known_us = np.maximum(row_at_us, _microseconds(stored["known_at"]))
    if known is None:
        return as_of(questions.at_us, known_us, slice(None))
    found = np.empty(len(questions), dtype=np.int64)
    by_time, by_generation = np.flatnonzero(known < 0), np.flatnonzero(known >= 0)
    found[by_generation] = as_of(known, stored["generation"].to_numpy(), by_generation)
    if len(by_time):
        found[by_time] = as_of(questions.at_us, known_us, by_time)
    return found


def _microseconds(moments: pa.ChunkedArray) -> Ints:
    """Microseconds since 1970; those of timeless rows, which have no moment, are the beginning of time."""
    return np.asarray(moments.cast(pa.int64()).fill_null(TIMELESS_US).to_numpy())
