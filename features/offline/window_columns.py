"""The columns of window views for past questions: reading the events of a source and joining them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from core.use_case import UseCase
from features import tiles
from features.offline.grouping import coded, entity_codes, shares
from features.offline.log import OfflineLog
from features.offline.logged_events import LoggedEvents
from features.offline.questions import Questions, in_parallel
from features.offline.window_join import WindowJoin
from features.views import WindowView

Ints = npt.NDArray[np.int64]
Targets = Mapping[str, npt.NDArray[Any]]
_DAY = timedelta(days=1)


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


def fill_windows(
    log: OfflineLog,
    use_case: UseCase,
    views: Sequence[WindowView],
    questions: Questions,
    targets: Targets,
    events_at_once: int,
) -> None:
    """Fill in all window views over one source, the key groups side by side.

    Args:
        log: the offline log.
        use_case: whose views.
        views: views over the same source.
        questions: n questions.
        targets: by view, where its values go, shape (n, columns).
        events_at_once: with more events than that in reach, only those of a share of the entities are held at once.
    """
    known = {view.name: questions.known(use_case, view) for view in views}
    fields = _fields(views)

    def join(work: tuple[_Share, LoggedEvents | None]) -> None:
        share, events = work
        _join_group([view for view in views if view.by == share.by], share, events, questions, known, targets)

    for together in _shares(log, views, questions, any(k is not None for k in known.values()), events_at_once):
        tables = {id(share.events): share.events for share in together if share.events.num_rows}
        logged = {key: _logged(table, fields) for key, table in tables.items()}
        in_parallel(join, [(share, logged.get(id(share.events))) for share in together])


def _fields(views: Sequence[WindowView]) -> list[str]:
    return list(dict.fromkeys(f for view in views for a in view.aggregates for f in (a.field, a.over) if f is not None))


def _shares(
    log: OfflineLog, views: Sequence[WindowView], questions: Questions, by_position: bool, events_at_once: int
) -> Iterator[list[_Share]]:
    """What is to be held at once: all key groups, or one share of the entities of one group after another."""
    source, groups = views[0].source, {view.by: view.keys for view in views}
    since = _moment(questions.at_us.min()) - max(view.tile * view.slots for view in views) - _DAY
    until = _moment(questions.at_us.max()) + max(view.lateness for view in views) + 2 * _DAY
    others = [*_fields(views), *(["position"] if by_position else [])]
    count = -(-log.count_events(source, since=since, until=until) // events_at_once)
    if count <= 1:
        columns = [*(key for keys in groups.values() for key in keys), *others]
        tables = log.event_tables(source, list(groups), columns, since=since, until=until)
        yield [_Share(by, table, None) for by, table in tables.items()]
        return
    for by, keys in groups.items():
        of_question = shares([questions.coded(key) for key in keys], count)
        for number in range(count):

            def keep(part: pa.Table, keys: Sequence[str] = keys, number: int = number) -> npt.NDArray[np.bool_]:
                return np.asarray(shares([coded(part[key]) for key in keys], count) == number)

            table = log.event_tables(source, [by], [*keys, *others], since=since, until=until, keep=keep)[by]
            yield [_Share(by, table, np.flatnonzero(of_question == number))]


def _join_group(
    views: Sequence[WindowView],
    share: _Share,
    events: LoggedEvents | None,
    questions: Questions,
    known: Mapping[str, Ints | None],
    targets: Targets,
) -> None:
    """Fill in the window views of one key group, for the questions of a share."""
    if events is None:
        asked: Any = slice(None) if share.asked is None else share.asked
        for view in views:
            targets[view.name][asked] = tiles.values(view, tiles.empty_rows(view, (1, len(view.windows))))
            questions.done(len(questions) if share.asked is None else len(share.asked))
        return
    keys = views[0].keys
    reader, owner, entities = entity_codes(
        [questions.coded(key) for key in keys], [coded(share.events[key]) for key in keys]
    )
    order = questions.by_entity(reader, entities)
    if share.asked is not None:
        order = order[_marked(share.asked, len(questions))[order]]
    reader, at_us = reader[order], questions.at_us[order]
    for view in views:
        knew = known[view.name]
        knew = None if knew is None else knew[order]
        by_time = knew is None or bool((knew < 0).any())
        join = WindowJoin(view, events, owner, entities, by_position=knew is not None, by_time=by_time)
        for block in questions.blocks(len(order)):
            folded = join.fold(reader[block], at_us[block], None if knew is None else knew[block])
            targets[view.name][order[block]] = tiles.values(view, folded)
            questions.done(len(folded))


def _marked(places: Ints, n: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros(n, dtype=bool)
    marked[places] = True
    return marked


def _moment(us: Any) -> pd.Timestamp:
    return pd.Timestamp(int(us), unit="us", tz="UTC")


def _logged(events: pa.Table, fields: Sequence[str]) -> LoggedEvents:
    at_us, known_us = (events[name].cast(pa.int64()).to_numpy() for name in ("at", "known_at"))
    position: Ints | None = events["position"].to_numpy() if "position" in events.column_names else None
    return LoggedEvents(at_us, known_us, position, {name: _field(events[name]) for name in fields})


def _field(values: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Float64 with NaN for null, or objects of str with "" for null."""
    if pa.types.is_dictionary(values.type):
        found = coded(values)
        return np.append(found.values.to_numpy(zero_copy_only=False).astype(object), "")[found.codes]
    return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)
