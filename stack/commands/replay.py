"""``replay``: policies tried on the past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.commands.console import JsonOption, UseCaseArgument, err, out, say_json, settings_of_command

if TYPE_CHECKING:
    from core.settings import Settings
    from flows.replay_inputs import ReplaySpec
    from monitoring.replay.outcome import Comparison

_POLICIES = "never,daily,weekly,monthly,drift,performance,cost,always,oracle"


def replay(
    use_case: UseCaseArgument,
    policies: Annotated[
        str, typer.Option(help="Names with commas between; also: estimate, labels, own (the use case's own).")
    ] = _POLICIES,
    since: Annotated[
        str | None, typer.Option("--from", help="ISO 8601 moment at which the first version is trained.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="ISO 8601 moment at which it ends.")] = None,
    every_days: Annotated[
        float | None, typer.Option("--every-days", help="Days between looks; the policy's monitor_every by default.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write a page with plots here.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the recommended trigger beside the use case's file.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Try retraining policies on the past of a use case, by the code that decides in production.

    Needs nothing but its history: no stack has to run. Exit code 1 with --write if no policy can be recommended.
    """
    from flows.replay import run_replay

    settings = settings_of_command()
    spec = _spec(settings, use_case, policies, since, until, every_days)
    with _progress() as show:
        found = run_replay(spec, settings, show)
    if page is not None:
        from monitoring.replay.page import write_page

        write_page(found, page)
    written = _write(settings, found) if write else None
    if json:
        say_json(found.as_json() | {"written": written and str(written), "html": page and str(page)})
    else:
        _print(found, written, page)
    raise typer.Exit(1 if write and written is None else 0)


def _spec(
    settings: Settings, use_case: str, policies: str, since: str | None, until: str | None, every_days: float | None
) -> ReplaySpec:
    from core.clock import parse_moment
    from flows.replay_inputs import ReplaySpec
    from stack.commands.versions import require_declared

    require_declared(settings, use_case)
    names = tuple(name for name in (part.strip() for part in policies.split(",")) if name)
    if not names:
        raise typer.BadParameter("name at least one policy")
    if every_days is not None and every_days <= 0:
        raise typer.BadParameter("--every-days must be above 0")
    try:
        moments = [parse_moment(text) if text else None for text in (since, until)]
    except ValueError as error:
        raise typer.BadParameter(f"{error}; write moments like 2019-02-01") from error
    return ReplaySpec(
        use_case, settings.models_dir.absolute(), settings.data_dir.absolute(), settings.home.absolute(), names,
        since=moments[0], until=moments[1], every=None if every_days is None else timedelta(days=every_days),
    )  # fmt: skip


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err()) as shown:
        tasks: dict[str, int] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield show


def _write(settings: Settings, found: Comparison) -> Path | None:
    """Write the recommended trigger beside the use case; None if none is recommended."""
    from core.clock import SystemClock
    from core.discovery import discover, select
    from core.policy_file import write_policy
    from core.policy_json import trigger_as_json

    if found.recommended is None:
        return None
    path = select(discover(settings.models_dir), found.use_case).path
    trigger = trigger_as_json(found.policies[found.recommended].calls_for)
    return write_policy(path, {"trigger": trigger}, why=found.why, written_at=SystemClock().now())


def _print(found: Comparison, written: Path | None, page: Path | None) -> None:
    from rich.table import Table

    from monitoring.replay.page import HEADINGS, cells

    table = Table(HEADINGS[0], box=None)
    for heading in HEADINGS[1:]:
        table.add_column(heading, justify="right")
    for outcome in found.outcomes:
        table.add_row(*cells(outcome, found), style="bold" if outcome.policy == found.recommended else None)
    out().print(table)
    span = found.span
    out().print(
        f"{found.rows:,} labelled predictions from {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}, "
        f"replayed in {found.wall_s:.0f} s.",
        markup=False,
    )
    out().print(f"Recommended: {found.why}." if found.recommended else f"None is recommended: {found.why}.")
    for what, where in (("policy", written), ("page", page)):
        if where is not None:
            out().print(f"Wrote the {what} to {where}", markup=False, soft_wrap=True)
