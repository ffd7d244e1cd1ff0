"""``test``: the tests that every version of a use case must pass."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stack.commands.console import JsonOption, UseCaseArgument, err, out, say_json, settings_of_command

if TYPE_CHECKING:
    from stack.model_testing import Tested


def test(
    use_case: UseCaseArgument,
    version: Annotated[
        str | None,
        typer.Argument(help="A version of its model in MLflow, or an alias; without: one trained on its history."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run the model tests: invariance, direction, minimum, slices, a tiny batch learnt by heart, reload equality.

    Without a version a model is trained on the use case's history, which needs no stack. Exit code 1 if a required
    test fails.
    """
    from stack.model_testing import run_tests

    settings = settings_of_command()
    with err().status(f"testing {use_case}"):
        found = run_tests(settings, use_case, version)
    if json:
        say_json(
            {
                "use_case": use_case, "version": found.version, "subject": found.said, "ok": not found.report.failed,
                "tests": [asdict(each) for each in found.report.results],
            }
        )  # fmt: skip
    else:
        _show(use_case, found)
    raise typer.Exit(1 if found.report.failed else 0)


def _show(use_case: str, found: Tested) -> None:
    from rich.table import Table

    table = Table("test", "", "what was found", box=None)
    table.add_column("seconds", justify="right")
    for each in found.report.results:
        mark = "[green]passed[/]" if each.passed else "[red]FAILED[/]" if each.required else "[yellow]noted[/]"
        table.add_row(each.name, mark, each.said, f"{each.seconds:.2f}")
    out().print(f"{use_case}: {found.said}", markup=False)
    out().print(table)
    if found.report.failed:
        out().print(f"{len(found.report.failed)} of {len(found.report.results)} failed: it would be rejected.")
    else:
        out().print(f"No required test of {len(found.report.results)} failed.")
