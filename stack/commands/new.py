"""``new``: from a table to a use-case file."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.commands.console import err, out, settings_of_command

if TYPE_CHECKING:
    from stack.scaffold.declaration import Choices, Declaration
    from stack.scaffold.trial import Trial
    from stack.scaffold.writing import Written

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def new(  # noqa: PLR0913 - an option each
    name: Annotated[str, typer.Argument(help="Name of the use case: lower-case letters, digits and underscores.")],
    source: Annotated[
        Path, typer.Option("--from", help="A table of past questions: .csv, .tsv (also with .gz) or .parquet.")
    ],
    label: Annotated[str | None, typer.Option(help="Column that says what came of a row.")] = None,
    positive: Annotated[str | None, typer.Option(help="Value of the label that counts as 1.")] = None,
    label_above: Annotated[float | None, typer.Option(help="Numbers of the label above this count as 1.")] = None,
    time: Annotated[
        str | None, typer.Option(help="Column of the question's time; several joined by +, as in date+hour.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of times that name none, as in Europe/Berlin.")] = None,
    start: Annotated[str | None, typer.Option(help="Time of the first row, of a table without times.")] = None,
    step: Annotated[str | None, typer.Option(help="Time from one row to the next, with --start: 5min, 1h.")] = None,
    label_time: Annotated[str | None, typer.Option(help="Column of the time when the label was known.")] = None,
    horizon: Annotated[str | None, typer.Option(help="How long after the question its label is known: 1h, 7d.")] = None,
    entity: Annotated[
        list[str] | None, typer.Option(help="Column that past outcomes are looked up by; may be repeated.")
    ] = None,
    request: Annotated[
        list[str] | None, typer.Option(help="Column that clients do know, though it looks as if not; may be repeated.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out; may be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take what was guessed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a use case of that name.")] = False,
    check: Annotated[bool, typer.Option(help="Train a version in memory, and say how good it is.")] = True,
) -> None:
    """Write a use case from a table of the past. Guesses what it can, and says what it guessed.

    On a terminal it asks, with its guess as the answer to a bare Enter. The file works as it is written.
    """
    from stack.scaffold.declaration import Choices
    from stack.scaffold.tables import read_table
    from stack.scaffold.writing import check_name, write_use_case

    settings = settings_of_command()
    check_name(name, settings.models_dir, force=force)
    chosen = Choices(
        time=time, zone=_zone(timezone), start=_moment(start), step=_span(step, "--step"), label=label,
        positive=positive,        above=label_above, label_time=label_time, horizon=_span(horizon, "--horizon"),
        entities=tuple(entity) if entity else None, request=tuple(request or ()), drop=tuple(drop or ()),
    )  # fmt: skip
    with err().status(f"reading {source}"):
        table = read_table(source)
    if not yes and sys.stdin.isatty():
        from stack.commands.new_questions import ask

        chosen = ask(table, chosen)
    declared = _decide(name, table, chosen)
    written = write_use_case(declared, table, source, models_dir=settings.models_dir, data_dir=settings.data_dir)
    show(declared, written)
    if check:
        from stack.scaffold.trial import try_out

        with err().status("training a version in memory"):
            history = written.loaded.use_case.history(settings.data_dir)
            trial = try_out(written.loaded, history)
        show_trial(trial)
    show_next(name)


def _decide(name: str, table: object, chosen: Choices) -> Declaration:
    import pandas as pd

    from stack.scaffold.deciding import declare

    assert isinstance(table, pd.DataFrame)
    with err().status("looking at the columns"):
        return declare(name, table, chosen)


def show(declared: Declaration, written: Written) -> None:
    """Say what was read and guessed."""
    from rich.table import Table

    out().print(
        f"Wrote {written.loaded.path}" + (f", and copied the table to {written.table}." if written.is_copy else ".")
    )
    grid = Table.grid(padding=(0, 2))
    label_time = f"at {' + '.join(declared.label_time.reads)}" if declared.label_time else "after the question"
    when = " + ".join(declared.time.reads) or "the order of rows"
    rows = (
        ("question", declared.question),
        ("rows", f"{declared.rows:,} from {declared.first:%Y-%m-%d %H:%M} to {declared.last:%Y-%m-%d %H:%M} UTC"),
        ("time", when),
        ("label", f"{declared.label.column}: {declared.base_rate:.1%} of {declared.labelled:,} are 1"),
        ("known", f"{label_time}, within {declared.horizon}"),
        ("entities", ", ".join(f.name for f in declared.entities)),
        ("request", _listed([f.name for f in declared.request])),
    )
    for row in rows:
        grid.add_row(*(_plain(cell) for cell in row))
    out().print(grid)
    if declared.left_out:
        out().print("Left out:")
        for column, why in list(declared.left_out.items())[:12]:
            out().print(f"  {column}: {why}", markup=False)
        if len(declared.left_out) > 12:
            out().print(f"  … and {len(declared.left_out) - 12} more, see the file.")
        out().print("If clients know one of them when they ask, say so: --request COLUMN.")
    for note in declared.notes:
        out().print(note, markup=False)


def show_trial(trial: Trial) -> None:
    """Say how good a version trained in memory is."""
    auc = "–" if trial.auc is None else f"{trial.auc:.3f}"
    gain = f"{abs(trial.gain):.1%} {'less' if trial.gain > 0 else 'more'}"
    out().print(
        f"Trained on {trial.trained_rows:,} rows, judged on the {trial.judged_rows:,} after them: log-loss "
        f"{trial.log_loss:.4f}, base rate {trial.base_rate_log_loss:.4f} ({gain}), AUC {auc}."
    )
    if trial.gain <= 0:
        out().print(
            "It does no better than always answering the base rate, so the gate would refuse it. See that the "
            "request holds what tells the label apart, or give more of the past."
        )
    elif trial.gain > 0.9:
        out().print(
            "That is almost too good: see that no field of the request is known only after the fact (--drop COLUMN)."
        )


def show_next(name: str) -> None:
    """Say what to run next."""
    out().print("Next:")
    for command, says in (
        (f"evergreen demo --use-case {name} --keep", "train, serve and replay; ends with a curl line and its answer"),
        (f"evergreen check {name}", "judge the file again after you changed it"),
        ("evergreen up", "or start the stack on the clock of today, see docs/add_a_use_case.md"),
    ):
        out().print(f"  {command}    # {says}", markup=False)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:15])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 15 else shown or "–"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _zone(text: str | None) -> str | None:
    from zoneinfo import ZoneInfo

    if text is None:
        return None
    try:
        return ZoneInfo(text).key
    except (KeyError, ValueError, OSError) as error:
        raise typer.BadParameter(f"--timezone {text} is no zone; name one such as Europe/Berlin or UTC") from error


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--start {text} is no time; write it as 2024-01-01 or 2024-01-01T08:00") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _span(text: str | None, option: str) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|w)", text.strip())
    seconds = float(found.group(1)) * _UNITS[found.group(2)] if found else 0.0
    if not found or seconds <= 0:
        raise typer.BadParameter(
            f"{option} {text} is no span of time; write a number and one of {', '.join(_UNITS)}: 5min"
        )
    return timedelta(microseconds=round(seconds * 1e6))
