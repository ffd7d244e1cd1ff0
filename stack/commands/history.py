"""``history``: what was decided about a use case, and what answered when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from core.clock import parse_moment
from stack.commands.console import JsonOption, UseCaseArgument, out, say_json, settings_of_command
from stack.commands.versions import opened_ledger, require_declared

if TYPE_CHECKING:
    from core.ledger import Ledger


def history(
    use_case: UseCaseArgument,
    limit: Annotated[int, typer.Option(help="How many entries, the newest.", min=1)] = 50,
    at: Annotated[str | None, typer.Option(help="Say which version answered at this moment, ISO 8601.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what was decided, by whom and why; the newest comes first. See also: evergreen explain ID.

    With --at: the version that answered then, since when, by whom and why; exit code 1 if none did.
    """
    from rich.table import Table

    from stack.status import entry_json

    moment = _moment(at) if at is not None else None
    settings = settings_of_command()
    require_declared(settings, use_case)
    with opened_ledger(settings) as ledger:
        if moment is not None:
            raise typer.Exit(_say_answered(ledger, use_case, moment, json))
        entries = ledger.entries(use_case, limit=limit)
    if json:
        say_json([entry_json(entry) for entry in entries])
        return
    table = Table("id", "as of", "kind", "action", "version", "by", "reason", box=None)
    for entry in entries:
        when = f"{entry.as_of:%Y-%m-%d %H:%M}"
        table.add_row(str(entry.id), when, entry.kind, entry.action, entry.version or "–", entry.actor, entry.reason)
    out().print(table if entries else f"Nothing has been decided about {use_case} yet.")


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no moment; write it like 2019-02-03T10:00Z") from error


def _say_answered(ledger: Ledger, use_case: str, moment: datetime, json: bool) -> int:
    from serving.answered import answered_at, answered_since

    deployments = ledger.deployments(use_case)
    found = answered_at(deployments, moment)
    if found is None:
        said = f"Nothing answered for {use_case} at {moment:%Y-%m-%d %H:%M:%S} UTC."
        if deployments:
            said += f" Its first version did from {answered_since(deployments[-1]):%Y-%m-%d %H:%M:%S} UTC on."
        if json:
            say_json(None)
        else:
            out().print(said, markup=False)
        return 1
    since = answered_since(found)
    if json:
        told = {name: getattr(found, name) for name in ("version", "generation", "previous", "actor", "reason")}
        moments = {"deployed_at": found.deployed_at.isoformat(), "as_of": found.as_of.isoformat()}
        clock = found.evidence.get("clock", "system")
        say_json({**told, "since": since.isoformat(), "clock": clock, **moments, "evidence": dict(found.evidence)})
        return 0
    asked = found.evidence.get("asked")
    out().print(
        f"Version {found.version} of {use_case} answered at {moment:%Y-%m-%d %H:%M:%S} UTC: generation "
        f"{found.generation}, since {since:%Y-%m-%d %H:%M:%S} UTC, by {found.actor}: {found.reason}"
        + (f" ({asked})" if asked else ""),
        markup=False,
    )
    return 0
