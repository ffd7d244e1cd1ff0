"""Point-in-time joins: for each past question, the features as they were known when it was asked.

Stored views are answered entity by entity in blocks of questions, so that beyond the questions, the events of one
source and the result little is held. Events that are too many at once are read in shares of the entities.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from core.use_case import UseCase
from features import tiles
from features.as_of import NO_ROW, as_of_rows
from features.columns import feature_matrix
from features.definitions import (
    BatchView,
    DerivedView,
    FeatureSet,
    RequestView,
    StoredView,
    WindowView,
    feature_set,
    view_digest,
)
from features.grouping import Coded, coded, entity_codes, order_by_group, shares, text_codes
from features.offline import OfflineLog
from features.published import NEVER_US, TIMELESS_US, batch_values
from features.questions import BY_TIME, field_column, known_column, to_us_array
from features.window_join import LoggedEvents, WindowJoin

__all__ = ["BY_TIME", "point_in_time_matrix", "to_us_array"]

Ints = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
EVENTS_AT_ONCE = 32_000_000
_QUESTIONS_AT_ONCE = 1 << 16
_DAY = timedelta(days=1)


def point_in_time_matrix(
    log: OfflineLog,
    use_case: UseCase,
    rows: pd.DataFrame,
    *,
    progress: Progress | None = None,
    events_at_once: int = EVENTS_AT_ONCE,
) -> npt.NDArray[np.float32]:
    """The feature matrix of past questions.

    Args:
        log: the offline log.
        use_case: whose features.
        rows: n questions: ``at`` (UTC), the entities and request fields, and where they were answered from stored
            features ``k__<view>@<digest>``, what was known of the view then: of a window view the position of the
            log its entity had come to, of a batch view the generation published. Without the column, or where it
            is null or negative, what was known at ``at`` counts.
        progress: is told, from time to time, how much of how much is done.
        events_at_once: of a source with more events than that in reach, only a share is held at once.

    Returns:
        Shape (n, features), float32; equal bit for bit to what serving assembled for the same questions.
    """
    features = feature_set(use_case)
    out = np.empty((len(rows), len(features.columns)), dtype=np.float32)
    if not len(rows):
        return out
    questions = _Questions(rows)
    told = _Told(progress, len(rows) * (len(features.stored_views) + 1))
    targets = _targets(features, out)
    for source in dict.fromkeys(view.source for view in features.window_views):
        views = [view for view in features.window_views if view.source == source]
        _join_source(log, use_case, views, questions, targets, told, events_at_once)
    _in_parallel(
        lambda view: _join_batch(log, use_case, view, questions, targets[view.name], told), features.batch_views
    )
    _compute(use_case, features, questions, targets, out)
    told.add(len(rows))
    return out


class _Questions:
    """Past questions, with what several views ask of them computed once."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self.at_us = to_us_array(rows["at"])
        self._coded: dict[str, Coded] = {}

    def __len__(self) -> int:
        return len(self.at_us)

    @cached_property
    def by_time(self) -> Ints | None:
        """Their order in time; None if that is the order they are in."""
        is_rising = bool(np.all(self.at_us[1:] >= self.at_us[:-1]))
        return None if is_rising else np.argsort(self.at_us, kind="stable")

    def coded(self, key: str) -> Coded:
        """An entity's column as numbers."""
        if key not in self._coded:
            self._coded[key] = coded(self.rows[key])
        return self._coded[key]

    def known(self, use_case: UseCase, view: StoredView) -> Ints | None:
        """What each knew of a view; None if all go by time."""
        return known_column(self.rows, f"k__{view.name}@{view_digest(use_case.name, view)}")

    def by_entity(self, entity: Ints, entities: int) -> Ints:
        """Their order by entity and time."""
        if self.by_time is None:
            return order_by_group(entity, entities + 1)
        return self.by_time[order_by_group(entity[self.by_time], entities + 1)]


class _Told:
    """Adds up what several threads have done and tells it."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = Lock()

    def add(self, done: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += done
                self._progress(self._done, self._total)


def _targets(features: FeatureSet, out: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    """Where the values of each stored view go: straight into the matrix, unless derived views need all their digits."""
    read = {name for view in features.views if isinstance(view, DerivedView) for name in view.inputs}
    targets: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for view in features.views:
        stop = start + len(view.columns)
        if isinstance(view, WindowView | BatchView):
            is_read = not read.isdisjoint(view.columns)
            targets[view.name] = np.empty((len(out), stop - start)) if is_read else out[:, start:stop]
        start = stop
    return targets


def _in_parallel(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    if len(items) < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        list(pool.map(work, items))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(first, min(first + _QUESTIONS_AT_ONCE, n)) for first in range(0, n, _QUESTIONS_AT_ONCE))


@dataclass(frozen=True)
class _Share:
    """Some of the questions and the events they may need.

    Args:
        by: the key group.
        events: what was read for it.
        asked: places of the questions; None: all.
    """

    by: str
    events: pa.Table
    asked: Ints | None


def _join_source(
    log: OfflineLog,
    use_case: UseCase,
    views: Sequence[WindowView],
    questions: _Questions,
    targets: Mapping[str, npt.NDArray[Any]],
    told: _Told,
    events_at_once: int,
) -> None:
    """Fill in all window views over one source, the key groups side by side."""
    groups = {by: [view for view in views if view.by == by] for by in dict.fromkeys(view.by for view in views)}
    logged: dict[int, LoggedEvents] = {}

    def join(share: _Share) -> None:
        _join_group(use_case, groups[share.by], share, logged, questions, targets, told)

    for together in _shares(log, use_case, views, questions, events_at_once):
        logged.clear()
        logged |= {id(share.events): _logged(share.events, views) for share in together if share.events.num_rows}
        _in_parallel(join, together)


def _shares(
    log: OfflineLog, use_case: UseCase, views: Sequence[WindowView], questions: _Questions, events_at_once: int
) -> Iterator[list[_Share]]:
    """What is to be held at once: all key groups, or one share of the entities of one group after another."""
    source, groups = views[0].source, {view.by: view.keys for view in views}
    since = _moment(questions.at_us.min()) - max(view.tile * view.slots for view in views) - _DAY
    until = _moment(questions.at_us.max()) + max(view.lateness for view in views) + 2 * _DAY
    count = -(-log.count_events(source, since=since, until=until) // events_at_once)
    fields = [f for view in views for a in view.aggregates for f in (a.field, a.over) if f is not None]
    if count <= 1:
        columns = [*dict.fromkeys([*(key for keys in groups.values() for key in keys), *fields])]
        tables = log.event_tables(source, list(groups), columns, since=since, until=until)
        yield [_Share(by, table, None) for by, table in tables.items()]
        return
    for by, keys in groups.items():
        of_question = shares([questions.coded(key) for key in keys], count)
        for number in range(count):

            def keep(part: pa.Table, keys: Sequence[str] = keys, number: int = number) -> npt.NDArray[np.bool_]:
                return np.asarray(shares([coded(part[key]) for key in keys], count) == number)

            columns = [*dict.fromkeys([*keys, *fields])]
            table = log.event_tables(source, [by], columns, since=since, until=until, keep=keep)[by]
            yield [_Share(by, table, np.flatnonzero(of_question == number))]


def _moment(us: Any) -> pd.Timestamp:
    return pd.Timestamp(int(us), unit="us", tz="UTC")


def _microseconds(moments: pa.ChunkedArray) -> Ints:
    return np.asarray(moments.cast(pa.int64()).to_numpy())


def _logged(events: pa.Table, views: Sequence[WindowView]) -> LoggedEvents:
    fields = {f for view in views for a in view.aggregates for f in (a.field, a.over) if f is not None}
    return LoggedEvents(
        _microseconds(events["at"]),
        _microseconds(events["known_at"]),
        events["position"].to_numpy(),
        {name: _field(events[name]) for name in sorted(fields & set(events.column_names))},
    )


def _field(values: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Float64 with NaN for null, or objects of str with "" for null."""
    if pa.types.is_dictionary(values.type):
        found = coded(values)
        return np.append(found.values.to_numpy(zero_copy_only=False).astype(object), "")[found.codes]
    return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _join_group(
    use_case: UseCase,
    views: Sequence[WindowView],
    share: _Share,
    logged: Mapping[int, LoggedEvents],
    questions: _Questions,
    targets: Mapping[str, npt.NDArray[Any]],
    told: _Told,
) -> None:
    """Fill in the window views of one key group, for the questions of a share."""
    asked = np.arange(len(questions)) if share.asked is None else share.asked
    if not share.events.num_rows:
        for view in views:
            nothing = tiles.values(view, tiles.empty_rows(view, (1, len(view.windows))))
            targets[view.name][asked] = nothing
            told.add(len(asked))
        return
    keys = views[0].keys
    reader, owner, entities = entity_codes(
        [questions.coded(key) for key in keys], [coded(share.events[key]) for key in keys]
    )
    order = questions.by_entity(reader, entities)
    if share.asked is not None:
        is_asked = np.zeros(len(questions), dtype=bool)
        is_asked[asked] = True
        order = order[is_asked[order]]
    reader, at_us = reader[order], questions.at_us[order]
    for view in views:
        known = questions.known(use_case, view)
        known = None if known is None else known[order]
        join = WindowJoin(
            view, logged[id(share.events)], owner, entities,
            by_position=known is not None, by_time=known is None or bool((known < 0).any()),
        )  # fmt: skip
        for block in _blocks(len(order)):
            folded = join.fold(reader[block], at_us[block], None if known is None else known[block])
            targets[view.name][order[block]] = tiles.values(view, folded)
            told.add(len(folded))


def _join_batch(
    log: OfflineLog, use_case: UseCase, view: BatchView, questions: _Questions, target: npt.NDArray[Any], told: _Told
) -> None:
    """Fill in a batch view."""
    published = log.published(use_case.name, view.name, view_digest(use_case.name, view))
    stored = published.keys()
    if not stored.num_rows:
        target[:] = view.defaults
        told.add(len(questions))
        return
    row_at_us = _microseconds(stored["at"].cast(pa.int64()).fill_null(TIMELESS_US))
    found = _published_rows(stored, row_at_us, view, questions, questions.known(use_case, view))
    outputs = published.outputs(view.outputs)
    for block in _blocks(len(questions)):
        place = found[block]
        moment = np.where(place == NO_ROW, NEVER_US, row_at_us[place])
        target[block] = batch_values(view, moment, outputs[place], questions.at_us[block])[0]
        told.add(len(place))


def _published_rows(
    stored: pa.Table, row_at_us: Ints, view: BatchView, questions: _Questions, known: Ints | None
) -> Ints:
    """The row each question read, `NO_ROW` where there was none."""
    held = coded(stored["entity"])
    entity = text_codes([questions.coded(key) for key in view.keys], held.values)

    def as_of(asked: Ints, row_known: Ints, where: Any) -> Ints:
        return as_of_rows(entity[where], asked[where], held.codes, row_known, row_at_us, entities=len(held.values))

    known_us = _microseconds(stored["known_at"].cast(pa.int64()).fill_null(TIMELESS_US))
    if known is None:
        return as_of(questions.at_us, np.maximum(row_at_us, known_us), slice(None))
    found = np.empty(len(questions), dtype=np.int64)
    by_time, by_generation = np.flatnonzero(known < 0), np.flatnonzero(known >= 0)
    found[by_generation] = as_of(known, stored["generation"].to_numpy(), by_generation)
    if len(by_time):
        found[by_time] = as_of(questions.at_us, np.maximum(row_at_us, known_us), by_time)
    return found


def _compute(
    use_case: UseCase,
    features: FeatureSet,
    questions: _Questions,
    targets: Mapping[str, npt.NDArray[Any]],
    out: npt.NDArray[np.float32],
) -> None:
    """Compute what is computed from requests and other features, and put the matrix together."""
    computed = [view for view in features.views if isinstance(view, RequestView | DerivedView)]
    if not computed:
        return
    needed = {name for view in computed for name in view.inputs}
    columns = {f.name: field_column(f, questions.rows[f.name]) for f in use_case.request_fields if f.name in needed}
    columns["at"] = questions.at_us
    for block in _blocks(len(questions)):
        stored = {name: target[block] for name, target in targets.items()}
        out[block] = feature_matrix(features, stored, {name: values[block] for name, values in columns.items()})
