"""``retrain``, ``promote``, ``rollback`` and ``history``."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated

import typer

from core.clock import SystemClock
from core.decision import Decision
from core.discovery import discover, select
from core.errors import DeploymentError
from core.settings import Settings
from stack.commands.console import JsonOption, UseCaseArgument, err, out, say_json, settings_of_command

if TYPE_CHECKING:
    from core.ledger import Ledger

_CHAMPION = "champion"
WaitOption = Annotated[bool, typer.Option(help="Wait until the version answers.")]
WithinOption = Annotated[float, typer.Option("--within-s", help="Seconds to wait at most.", min=1)]


def retrain(
    use_case: UseCaseArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger and with the version.")] = "by hand",
    wait: Annotated[bool, typer.Option(help="Wait for the end of the run.")] = True,
    within_s: WithinOption = 3600,
) -> None:
    """Train a new version now. The gate decides whether it is promoted; exit code 1 if the run fails."""
    from flows.client import RETRAIN, run_deployment

    settings = settings_of_command()
    _require_declared(settings, use_case)
    ledger = _ledger(settings)
    before = ledger.entries(use_case, limit=1)
    with err().status(f"retraining {use_case}"):
        run = run_deployment(
            RETRAIN,
            {"use_case": use_case, "reason": reason},
            timeout_s=within_s,
            wait=wait,
            api_url=settings.prefect_api_url,
        )
    out().print(f"Flow run {run.name}: {run.state}. {run.message}".rstrip(), markup=False)
    seen = before[0].id if before else 0
    for entry in reversed([e for e in ledger.entries(use_case, limit=20) if e.id > seen] if wait else []):
        out().print(f"  {entry.kind}: {entry.action}: {entry.reason}", markup=False)
    raise typer.Exit(0 if run.completed or not wait else 1)


def promote(
    use_case: UseCaseArgument,
    version: Annotated[str, typer.Argument(help="Version of its model in MLflow.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "by hand",
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Make a version the champion. Moves the MLflow alias, which the deployer follows."""
    settings = settings_of_command()
    _require_declared(settings, use_case)
    _move_alias(settings, use_case, version, Decision("promote", reason, {"alias": _CHAMPION}))
    _follow(settings, use_case, version, within_s if wait else 0)


def rollback(
    use_case: UseCaseArgument,
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "by hand",
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Return to the version that answered before the present one."""
    settings = settings_of_command()
    _require_declared(settings, use_case)
    live = _ledger(settings).live(use_case)
    if live is None or live.previous is None:
        raise DeploymentError(
            f"{use_case} has no earlier version to return to. See: evergreen history {use_case}; "
            f"to take another version: evergreen promote {use_case} VERSION"
        )
    evidence = {"alias": _CHAMPION, "from": live.version, "generation": live.generation}
    _move_alias(settings, use_case, live.previous, Decision("rollback", reason, evidence))
    _follow(settings, use_case, live.previous, within_s if wait else 0)


def history(
    use_case: UseCaseArgument,
    limit: Annotated[int, typer.Option(help="How many entries, the newest.", min=1)] = 50,
    json: JsonOption = False,
) -> None:
    """Show what was decided, by whom and why. The newest comes first."""
    from rich.table import Table

    from stack.status import entry_json

    settings = settings_of_command()
    _require_declared(settings, use_case)
    entries = _ledger(settings).entries(use_case, limit=limit)
    if json:
        say_json([entry_json(entry) for entry in entries])
        return
    table = Table("as of", "kind", "action", "version", "by", "reason", box=None)
    for entry in entries:
        moment = f"{entry.as_of:%Y-%m-%d %H:%M}"
        table.add_row(moment, entry.kind, entry.action, entry.version or "–", entry.actor, entry.reason)
    out().print(table if entries else f"Nothing has been decided about {use_case} yet.")


def _move_alias(settings: Settings, use_case: str, version: str, decision: Decision) -> None:
    from registry.mlflow_registry import MlflowRegistry

    with err().status(f"moving the alias {_CHAMPION}"):
        registry = MlflowRegistry(settings.mlflow_url)
        registry.info(use_case, version)
        registry.set_alias(use_case, _CHAMPION, version)
    now = SystemClock().now()
    _ledger(settings).record(
        use_case, "promotion", decision, actor=f"{getpass.getuser()} (evergreen)", as_of=now, version=version
    )


def _follow(settings: Settings, use_case: str, version: str, within_s: float) -> None:
    """Wait until the deployer has put the version into service.

    Raises:
        DeploymentError: if it has not in time, or refused it.
    """
    if not within_s:
        out().print(f"Version {version} of {use_case} is the champion; the deployer switches to it when it is up.")
        return
    ledger, deadline = _ledger(settings), time.monotonic() + within_s
    began = SystemClock().now()
    with err().status(f"waiting for the deployer to switch {use_case} to version {version}"):
        while (live := ledger.live(use_case)) is None or live.version != version:
            refusals = ledger.entries(use_case, kind="deployment", limit=1)
            if refusals and refusals[0].action == "refuse" and refusals[0].recorded_at >= began:
                raise DeploymentError(refusals[0].reason)
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"Version {version} of {use_case} is the champion, but does not answer after {within_s:.0f} s. "
                    "Is the deployer running? See: evergreen status"
                )
            time.sleep(0.2)
    out().print(f"Version {version} of {use_case} answers now (generation {live.generation}).")


def _require_declared(settings: Settings, use_case: str) -> None:
    select(discover(settings.models_dir), use_case)


def _ledger(settings: Settings) -> Ledger:
    from core.ledger import Ledger

    ledger = Ledger(settings.ledger_url)
    ledger.migrate()
    return ledger
