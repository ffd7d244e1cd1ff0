"""``features rebuild``, ``features audit`` and ``features compact``; ``features show`` has a module of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.settings import Settings
from stack.commands.console import (
    JsonOption,
    UseCaseArgument,
    declared_use_case,
    err,
    out,
    say_json,
    settings_of_command,
)

if TYPE_CHECKING:
    from core.use_case import UseCase
    from features.offline.audit import AuditReport
    from features.offline.log import OfflineLog

_SETTLE_S = 10.0


def rebuild() -> None:
    """Compute the online features anew. Reads the offline log: after Redis was lost, or partitions were changed.

    Everything else may run meanwhile; what is not in the offline log yet is applied afterwards.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from core.discovery import discover
    from core.errors import DependencyDown
    from features.connection import REDIS_FAULTS, connect
    from features.offline.log import OfflineLog
    from features.streaming.rebuild import rebuild as rebuild_features
    from features.streams import Keys
    from stack.processes import without_password

    settings = settings_of_command()
    use_cases = {name: found.use_case for name, found in discover(settings.models_dir).items()}
    log, columns = OfflineLog(settings.offline_dir), (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, MofNCompleteColumn(), TimeElapsedColumn(), console=err()) as bar:
        task = bar.add_task("events of all views", total=_events_of_views(log, use_cases.values()))
        try:
            with connect(settings) as client:
                applied = rebuild_features(
                    client,
                    Keys(settings.redis.namespace),
                    log,
                    use_cases,
                    partitions=settings.stream.partitions,
                    expire=settings.clock == "system",
                    progress=lambda events: bar.update(task, completed=events),
                )
        except REDIS_FAULTS as error:
            raise DependencyDown("Redis", f"{without_password(settings.redis_url)}: {error}") from error
        bar.update(task, total=max(applied, 1), completed=max(applied, 1))
    out().print(f"Rebuilt the online features from {applied:,} events, each counted once per view.")


def audit(
    use_case: UseCaseArgument,
    rows: Annotated[int, typer.Option(help="How many served predictions to sample.", min=1)] = 1000,
    since: Annotated[str | None, typer.Option(help="Earliest moment asked about, ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(help="Moment asked about before which, ISO 8601.")] = None,
    json: JsonOption = False,
) -> None:
    """Recompute served features from the offline log. Exit code 1 if any value differs from what was served."""
    from features.offline.audit import audit_features
    from features.offline.log import OfflineLog

    settings = settings_of_command()
    declared = declared_use_case(settings, use_case)
    first, end = moment_option("--since", since), moment_option("--until", until)
    with err().status("recomputing what was served"):
        settle_log(settings)
        log, partitions = OfflineLog(settings.offline_dir), settings.stream.partitions
        report = audit_features(log, declared, rows=rows, since=first, until=end, partitions=partitions)
    if json:
        counts = {"rows": report.rows, "skipped": report.skipped}
        say_json({"use_case": use_case, **counts, "clean": report.is_clean, "features": _skew(report)})
    else:
        _show_audit(report)
    raise typer.Exit(0 if report.is_clean else 1)


def compact(
    before: Annotated[str | None, typer.Option(help="Days before this moment, ISO 8601; today by default.")] = None,
) -> None:
    """Merge the small files of past days of the offline log. May run beside everything else."""
    from core.clock import SystemClock
    from features.offline.log import OfflineLog, midnight

    settings = settings_of_command()
    moment = moment_option("--before", before) or midnight(SystemClock().now())
    with err().status("merging files of the offline log"):
        removed = OfflineLog(settings.offline_dir).compact(None, moment)
    out().print(f"Merged {removed:,} files of the offline log into others.")


def _events_of_views(log: OfflineLog, use_cases: Iterable[UseCase]) -> int:
    """How many events a rebuild has before it at most, each counted once per window view."""
    from features.definitions import feature_set

    sources = Counter(view.source for use_case in use_cases for view in feature_set(use_case).window_views)
    return sum(views * log.event_table(name, columns=["known_at"]).num_rows for name, views in sources.items())


def _show_audit(report: AuditReport) -> None:
    from rich.table import Table

    if report.skipped:
        out().print(f"{report.skipped:,} predictions of versions that declare their features otherwise are left out.")
    if not report.rows:
        out().print("Nothing was served in that span that could be audited.")
        return
    table = Table("feature", "vectors that differ", "largest difference", box=None)
    for name, skew in _skew(report).items():
        difference = skew["largest_difference"]
        colour = "red" if skew["mismatches"] else "green"
        shown = "not a number on one side" if difference is None else f"{difference:g}"
        table.add_row(name, f"[{colour}]{skew['mismatches']}[/]", shown)
    out().print(table)
    differing = sum(n > 0 for n in report.mismatches.values())
    verdict = f"{differing} features differ" if differing else "all values agree, bit for bit"
    out().print(f"{report.rows:,} served feature vectors recomputed from the log: {verdict}.")


def _skew(report: AuditReport) -> Mapping[str, Any]:
    found = {}
    for name, n in report.mismatches.items():
        largest = report.largest_difference[name]
        found[name] = {"mismatches": n, "largest_difference": largest if math.isfinite(largest) else None}
    return found


def moment_option(option: str, text: str | None) -> datetime | None:
    """The moment an option names; wrong usage if it is none."""
    from core.clock import parse_moment

    try:
        return parse_moment(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text!r} is no ISO 8601 moment, such as 2019-02-05T00:00:00Z") from error


def settle_log(settings: Settings) -> None:
    """Have what was acknowledged written to the offline log, if there is a stream worker to do it."""
    from core.errors import DependencyDown
    from features.connection import REDIS_FAULTS, connect
    from features.streaming.worker import settle
    from features.streams import Keys

    with suppress(DependencyDown, *REDIS_FAULTS), connect(settings, socket_timeout=_SETTLE_S) as client:
        settle(client, Keys(settings.redis.namespace), settings.stream.partitions, timeout_s=_SETTLE_S)
