"""``retrain``, and what commands about versions share."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from core.clock import SystemClock
from core.decision import Decision
from core.discovery import discover, select
from core.errors import DependencyDown
from core.settings import Settings
from stack.commands.console import UseCaseArgument, err, out, settings_of_command
from stack.preflight import require_writable

if TYPE_CHECKING:
    from core.ledger import Ledger

POLL_S = 0.2
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


def record_by_hand(ledger: Ledger, use_case: str, decision: Decision, version: str) -> None:
    """Write down what the person at this terminal decided."""
    ledger.record(use_case, "promotion", decision, actor=who(), as_of=SystemClock().now(), version=version)


def who() -> str:
    """The person at this terminal."""
    return f"{getpass.getuser()} (evergreen)"


def wake_deployer(settings: Settings) -> None:
    """Let the deployer look at MLflow and the ledger now; without Redis it finds out by itself."""
    from serving.wakes import RedisWakes

    with suppress(DependencyDown), closing(RedisWakes.connect(settings)) as wakes:
        wakes.wake()


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
