"""``up``, ``down`` and ``demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from core.settings import Settings
from stack.commands.console import err, out, settings_of_command


def up() -> None:
    """Start the local stack and wait until it answers. No effect on what runs already."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from stack.local import LocalStack

    settings = settings_of_command()
    stack = LocalStack(settings)
    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err()) as progress:
        tasks = {process.name: progress.add_task(process.name, total=1) for process in stack.processes}

        def report(name: str, state: str) -> None:
            if state == "ready":
                progress.update(tasks[name], completed=1)

        started = stack.up(report)
        if started.already_up:
            for task in tasks.values():
                progress.update(task, completed=1, visible=False)
    if started.already_up:
        out().print(f"The stack in {stack.settings.home} is up already.")
    else:
        out().print(f"The stack in {stack.settings.home} is up after {started.seconds:.1f} s.")
    print_addresses(stack.settings)


def down() -> None:
    """Stop the local stack; nothing of it is left running. Its state stays in the home folder."""
    from stack.local import LocalStack

    stack = LocalStack(settings_of_command())
    was_up = stack.is_up()
    with err().status("stopping") as shown:
        ended = stack.down(lambda name, state: shown.update(f"{state} {name}"))
    for straggler in ended:
        err().print(f"ended a process that was left behind: {straggler}")
    out().print("The stack is down." if was_up or ended else "The stack was not up.")


def demo(
    use_case: Annotated[str, typer.Option("--use-case", help="Which use case's history to replay.")] = "taxi_tip",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running at the end.")] = False,
) -> None:
    """Replay a history through the whole stack. Shows the loop closing by itself."""
    from stack.demo import run

    raise typer.Exit(run(settings_of_command(), use_case, keep))


def print_addresses(settings: Settings) -> None:
    """Say where people find what they look for."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    if settings.console.enabled:
        table.add_row("console", settings.console_url)
    table.add_row("gateway", f"{settings.gateway_url}/docs")
    table.add_row("MLflow", settings.mlflow_url)
    table.add_row("Prefect", settings.prefect_api_url.removesuffix("/api"))
    out().print(table)
