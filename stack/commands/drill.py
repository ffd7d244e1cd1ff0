"""``drill``."""

from __future__ import annotations

from typing import Annotated

import typer

from stack.commands.console import JsonOption, err, out, say_json, settings_of_command
from stack.commands.versions import opened_ledger, require_declared

OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", help="Rehearse this alone; may be given several times.", metavar="NAME")
]


def drill(
    use_case: Annotated[str | None, typer.Argument(help="Whose versions; by default the one that answers.")] = None,
    only: OnlyOption = None,
    per_s: Annotated[float, typer.Option("--per-s", help="Calls a second that are made meanwhile.", min=1)] = 20,
    external: Annotated[bool, typer.Option("--external", help="Move aliases in an MLflow elsewhere, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to begin.")] = False,
    json: JsonOption = False,
) -> None:
    """Rehearse on the running stack that a rollback, a lost webhook, dead processes and bad versions are survived.

    Kills processes, moves the alias champion and offers bad versions while clients ask all the time, and puts back
    what was before. Exit code 1 if anything was not survived.
    """
    from core.discovery import discover
    from stack.drill.drill import REHEARSALS, Plan, choose, live_use_cases
    from stack.drill.drill import drill as carry_out
    from stack.drill.report import as_json, as_table, is_passed

    unknown = [name for name in only or () if name not in REHEARSALS]
    if unknown:
        raise typer.BadParameter(f"there is no rehearsal {unknown[0]!r}; there are: {', '.join(REHEARSALS)}")
    settings = settings_of_command()
    if use_case is not None:
        require_declared(settings, use_case)
    with opened_ledger(settings) as ledger:
        name = choose(use_case, live_use_cases(ledger, sorted(discover(settings.models_dir))))
    plan = Plan(name, tuple(only or ()), per_s, external)
    if not yes:
        names = ", ".join(rehearsal.name for rehearsal in plan.rehearsals())
        err().print(f"This acts on the stack in {settings.home.absolute()}, on {name}: {names}.")
        typer.confirm("Clients should notice nothing. Begin?", abort=True, err=True)
    try:
        with err().status("looking at the stack") as shown:
            outcomes = carry_out(settings, plan, shown.update)
    except KeyboardInterrupt:
        err().print(f"Interrupted. See what was done: evergreen history {name}")
        raise typer.Exit(1) from None
    if json:
        say_json({"ok": is_passed(outcomes), "use_case": name, "rehearsals": as_json(outcomes)})
    else:
        out().print(as_table(outcomes))
    raise typer.Exit(0 if is_passed(outcomes) else 1)
