"""``retrain``, ``promote``, ``rollback`` and ``history``."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from core.clock import SystemClock
from core.decision import Decision
from core.discovery import discover, select
from core.errors import DeploymentError
from core.settings import Settings
from stack.commands.console import JsonOption, UseCaseArgument, err, out, say_json, settings_of_command
from stack.preflight import require_writable

if TYPE_CHECKING:
    from core.ledger import Ledger

_CHAMPION = "champion"
POLL_S = 0.2
_ENTRIES = 200
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
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
    require_declared(settings, use_case)
    with opened_ledger(settings) as ledger:
        before = ledger.entries(use_case, limit=1)
        with err().status(f"retraining {use_case}"):
            run = run_deployment(
                RETRAIN,
                {"use_case": use_case, "reason": reason},
                timeout_s=within_s,
                wait=wait,
                api_url=settings.prefect_api_url,
            )
        seen = before[0].id if before else 0
        came = [entry for entry in ledger.entries(use_case, limit=20) if entry.id > seen] if wait else []
    out().print(f"Flow run {run.name}: {run.state}. {run.message}".rstrip(), markup=False)
    for entry in reversed(came):
        out().print(f"  {entry.kind}: {entry.action}: {entry.reason}", markup=False)
    raise typer.Exit(0 if run.completed or not wait else 1)


def promote(
    use_case: UseCaseArgument,
    version: Annotated[str, typer.Argument(help="Version of its model in MLflow.")],
    reason: ReasonOption = "by hand",
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Make a version the champion. Moves the MLflow alias, which the deployer follows."""
    settings = settings_of_command()
    require_declared(settings, use_case)
    _move_alias(settings, use_case, version, Decision("promote", reason, {"alias": _CHAMPION}))
    _follow(settings, use_case, version, within_s if wait else 0)


def rollback(
    use_case: UseCaseArgument,
    canary: Annotated[bool, typer.Option("--canary", help="Only end the canary that runs.")] = False,
    reason: ReasonOption = "by hand",
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Return to the version that answered before the present one, or from a canary to the champion alone."""
    settings = settings_of_command()
    require_declared(settings, use_case)
    if canary:
        from stack.commands.rollout import end_share

        end_share(settings, use_case, "canary", Decision("rollback", reason, {}), within_s if wait else 0)
        return
    with opened_ledger(settings) as ledger:
        live = ledger.live(use_case)
        back = ledger.entries(use_case, kind="deployment", actions=("deploy", "rollback"), limit=_ENTRIES)
    if live is None or live.previous is None:
        raise DeploymentError(
            f"{use_case} has no earlier version to return to. See: evergreen history {use_case}; "
            f"to take another version: evergreen promote {use_case} VERSION"
        )
    last = next((entry for entry in back if entry.version == live.previous), None)
    if last is not None and last.action == "rollback" and last.evidence.get("role") == _CHAMPION:
        raise DeploymentError(
            f"The version of {use_case} before this one, {live.previous}, was itself taken back: {last.reason}. "
            f"Take another one: evergreen promote {use_case} VERSION"
        )
    evidence = {"alias": _CHAMPION, "from": live.version, "generation": live.generation}
    _move_alias(settings, use_case, live.previous, Decision("rollback", reason, evidence))
    _follow(settings, use_case, live.previous, within_s if wait else 0)


def history(
    use_case: UseCaseArgument,
    limit: Annotated[int, typer.Option(help="How many entries, the newest.", min=1)] = 50,
    json: JsonOption = False,
) -> None:
    """Show what was decided, by whom and why; the newest comes first. See also: evergreen explain ID."""
    from rich.table import Table

    from stack.status import entry_json

    settings = settings_of_command()
    require_declared(settings, use_case)
    with opened_ledger(settings) as ledger:
        entries = ledger.entries(use_case, limit=limit)
    if json:
        say_json([entry_json(entry) for entry in entries])
        return
    table = Table("id", "as of", "kind", "action", "version", "by", "reason", box=None)
    for entry in entries:
        moment = f"{entry.as_of:%Y-%m-%d %H:%M}"
        table.add_row(str(entry.id), moment, entry.kind, entry.action, entry.version or "–", entry.actor, entry.reason)
    out().print(table if entries else f"Nothing has been decided about {use_case} yet.")


def _move_alias(settings: Settings, use_case: str, version: str, decision: Decision) -> None:
    from registry.mlflow_registry import MlflowRegistry

    with err().status(f"moving the alias {_CHAMPION}"):
        registry = MlflowRegistry(settings.mlflow_url)
        registry.info(use_case, version)
        registry.set_alias(use_case, _CHAMPION, version)
    with opened_ledger(settings) as ledger:
        record_by_hand(ledger, use_case, decision, version)


def record_by_hand(ledger: Ledger, use_case: str, decision: Decision, version: str) -> None:
    """Write down what the person at this terminal decided."""
    actor, now = f"{getpass.getuser()} (evergreen)", SystemClock().now()
    ledger.record(use_case, "promotion", decision, actor=actor, as_of=now, version=version)


def _follow(settings: Settings, use_case: str, version: str, within_s: float) -> None:
    """Wait until the deployer has put the version into service.

    Raises:
        DeploymentError: if it has not in time, or refused it.
    """
    if not within_s:
        out().print(f"Version {version} of {use_case} is the champion; the deployer switches to it when it is up.")
        return
    waiting = f"waiting for the deployer to switch {use_case} to version {version}"
    with opened_ledger(settings) as ledger, err().status(waiting):
        generation = _await_deployment(ledger, use_case, version, within_s)
    out().print(f"Version {version} of {use_case} answers now (generation {generation}).")


def _await_deployment(ledger: Ledger, use_case: str, version: str, within_s: float) -> int:
    began, deadline = SystemClock().now(), time.monotonic() + within_s
    while (live := ledger.live(use_case)) is None or live.version != version:
        newest = ledger.entries(use_case, kind="deployment", limit=1)
        if newest and newest[0].action == "refuse" and newest[0].recorded_at >= began:
            raise DeploymentError(newest[0].reason)
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"Version {version} of {use_case} is the champion, but does not answer after {within_s:.0f} s. "
                "Is the deployer running? See: evergreen status"
            )
        time.sleep(POLL_S)
    return live.generation


def require_declared(settings: Settings, use_case: str) -> None:
    """Make sure there is a use case of that name.

    Raises:
        UnknownUseCase: if there is none.
    """
    select(discover(settings.models_dir), use_case)


@contextmanager
def opened_ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger, brought up to date, for as long as the block runs."""
    from core.ledger import Ledger

    if not settings.ledger.url:
        require_writable(settings.home)
    with closing(Ledger(settings.ledger_url)) as ledger:
        ledger.migrate()
        yield ledger
