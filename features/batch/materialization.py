"""Batch views: new rows are computed, written to the offline log, and put online from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import pandas as pd
import redis

from core.clock import MICROSECOND, SystemClock, as_utc, to_us
from core.errors import UseCaseError
from core.use_case import UseCase
from features.batch.publishing import Publisher, publishing, read_generation
from features.batch.rows import as_rows, moments
from features.definitions import BatchView, view_digest
from features.offline.generations import Generations
from features.offline.log import OfflineLog
from features.streams import SEQUENCE_BITS, Keys
from features.tables import LONG_AGO, Table, TableAccess, Wanted


@dataclass(frozen=True)
class Publication:
    """What a run of `materialize_view` did.

    Args:
        rows: new rows it brought.
        generation: the newest generation that readers see; 0 if there is none.
        dropped: rows left out because an entity field was null.
    """

    rows: int
    generation: int
    dropped: int = 0


def materialize_view(
    client: redis.Redis,
    keys: Keys,
    log: OfflineLog,
    use_case: UseCase,
    view: BatchView,
    as_of: datetime,
    *,
    access: TableAccess,
    partitions: int = 1,
    expire: bool = True,
    progress: Callable[[int], None] = lambda rows: None,
) -> Publication:
    """Compute what is new of a view as of a moment, and publish it: readers see all of it or nothing.

    What an earlier run left unfinished is completed first. Of a table only rows that became known since the last run
    are read, on the first run all of its history.

    Args:
        client: Redis, with ``decode_responses=False``.
        keys: names of the keys.
        log: the offline log.
        use_case: whose view.
        view: the view.
        as_of: nothing that became known later is used.
        access: for reading tables.
        partitions: how many there are.
        expire: let online rows expire by the machine's clock; off when history is replayed.
        progress: told how many rows are staged so far.

    Raises:
        UseCaseError: if the view's function yields something else than it declares.
        DataError: if its table cannot be read, or holds something that cannot be kept.
        DependencyDown: if Redis does not answer, or another run publishes the view for too long.
        Unavailable: if Redis was emptied meanwhile.
    """
    generations = _generations(log, use_case, view)
    publisher = Publisher(
        client, keys, generations, use_case, view, partitions=partitions, expire=expire, progress=progress
    )
    with publishing(generations):
        pointer = publisher.publish()
        found = fresh_rows(log, use_case, view, as_utc(as_of), access)
        if found.frame.empty:
            return Publication(0, pointer, found.dropped)
        newest = max([pointer, *generations.numbers()])
        generation = max((to_us(SystemClock().now()) // 1000) << SEQUENCE_BITS, newest + 1)
        generations.write(generation, found.frame)
        return Publication(len(found.frame), publisher.publish(), found.dropped)


def forget(client: redis.Redis, keys: Keys, log: OfflineLog, use_case: UseCase, view: BatchView) -> None:
    """Let readers see nothing of a view, as if it had never been published."""
    generations = _generations(log, use_case, view)
    with publishing(generations):
        Publisher(client, keys, generations, use_case, view, partitions=1, expire=False).forget()


def restore(
    client: redis.Redis,
    keys: Keys,
    log: OfflineLog,
    use_case: UseCase,
    view: BatchView,
    *,
    partitions: int = 1,
    expire: bool = True,
) -> int:
    """Put a view online anew from the offline log alone; its online rows must have been deleted.

    Returns:
        The newest generation; 0 if there is none.
    """
    generations = _generations(log, use_case, view)
    publisher = Publisher(client, keys, generations, use_case, view, partitions=partitions, expire=expire)
    with publishing(generations):
        publisher.forget()
        return publisher.publish()


@dataclass(frozen=True)
class FreshRows:
    """What a view has to publish.

    Args:
        frame: the rows, as the offline log keeps them.
        dropped: rows left out because an entity field was null.
    """

    frame: pd.DataFrame
    dropped: int


def fresh_rows(log: OfflineLog, use_case: UseCase, view: BatchView, as_of: datetime, access: TableAccess) -> FreshRows:
    """Compute the rows of a view as of a moment that are not in the log yet."""
    if isinstance(view.source, str):
        return _of_events(log, use_case, view, view.source, as_of)
    if view.source.at is None:
        return _of_timeless_table(log, use_case, view, view.source, as_of, access)
    return _of_table(log, use_case, view, view.source, as_of, access)


def _of_events(log: OfflineLog, use_case: UseCase, view: BatchView, source: str, as_of: datetime) -> FreshRows:
    events = log.events(source, since=as_of - view.lookback, until=as_of + MICROSECOND)
    if events.empty or view.compute is None:
        return FreshRows(pd.DataFrame(), 0)
    columns = ["id", "at", "known_at", *(f.name for f in use_case.source(source).fields)]
    computed = view.compute(events.reindex(columns=columns), as_of)
    if computed.index.nlevels != len(view.keys):
        raise UseCaseError(
            use_case.name,
            f"the frame computed for view {view.name!r} has {computed.index.nlevels} index levels",
            f"Index it by {', '.join(view.keys)}.",
        )
    indexed = {key: computed.index.get_level_values(i) for i, key in enumerate(view.keys)}
    rows = computed.drop(columns=list(view.keys), errors="ignore").reset_index(drop=True).assign(**indexed)
    stamp = pd.Series(pd.Timestamp(as_of).as_unit("us"), index=rows.index)
    frame, dropped = as_rows(use_case, view, rows, at=stamp, known_at=stamp)
    return FreshRows(frame.sort_values("entity", ignore_index=True), dropped)


def _of_table(
    log: OfflineLog, use_case: UseCase, view: BatchView, table: Table, as_of: datetime, access: TableAccess
) -> FreshRows:
    generations, after = _generations(log, use_case, view), table.known_after
    numbers = generations.numbers()
    # the rows of a generation became known after all those of the one before
    done = read_generation(generations, numbers[-1])["known_at"].max().to_pydatetime() if numbers else LONG_AGO
    since = max(done - after, LONG_AGO)
    rows = table.read(access, Wanted(text=_text_keys(use_case, view), since=since, until=as_of - after))
    at = moments(use_case, view, rows, cast(str, table.at))
    known_at = at + after
    fresh = (known_at > done) & (known_at <= as_of)
    rows, at, known_at = rows[fresh], at[fresh], known_at[fresh]
    frame, dropped = as_rows(use_case, view, _computed(use_case, view, rows, as_of), at=at, known_at=known_at)
    return FreshRows(frame.sort_values(["at", "entity"], ignore_index=True), dropped)


def _of_timeless_table(
    log: OfflineLog, use_case: UseCase, view: BatchView, table: Table, as_of: datetime, access: TableAccess
) -> FreshRows:
    rows = table.read(access, Wanted(text=_text_keys(use_case, view)))
    never = pd.Series(pd.NaT, index=rows.index, dtype="datetime64[us, UTC]")
    computed = _computed(use_case, view, rows, as_of)
    frame, dropped = as_rows(use_case, view, computed, at=never, known_at=never)
    before = _generations(log, use_case, view).frame()
    if not before.empty:
        outputs = list(view.outputs)
        last = before.drop_duplicates("entity", keep="last").set_index("entity")[outputs].reindex(frame["entity"])
        is_known = frame["entity"].isin(before["entity"]).to_numpy()
        is_same = (last.to_numpy().view("i4") == frame[outputs].to_numpy().view("i4")).all(axis=1)
        frame = frame[~(is_known & is_same)]
    return FreshRows(frame.sort_values("entity", ignore_index=True), dropped)


def _generations(log: OfflineLog, use_case: UseCase, view: BatchView) -> Generations:
    return log.published(use_case.name, view.name, view_digest(use_case.name, view))


def _computed(use_case: UseCase, view: BatchView, rows: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """The table's rows with the outputs computed, if the view computes any."""
    if view.compute is None or rows.empty:
        return rows
    computed = view.compute(rows.copy(), as_of)
    if not computed.index.equals(rows.index):
        raise UseCaseError(
            use_case.name,
            f"the frame computed for view {view.name!r} has other rows than the table",
            "Return the outputs on the index of the rows given.",
        )
    kept = rows[[key for key in view.keys if key in rows.columns]]
    return pd.concat([kept, computed[[c for c in computed.columns if c not in kept.columns]]], axis=1)


def _text_keys(use_case: UseCase, view: BatchView) -> tuple[str, ...]:
    return tuple(f.name for f in use_case.entities if f.dtype == "str" and f.name in view.keys)
