"""``promote``, ``approve`` and ``rollback``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from core.clock import SystemClock
from core.decision import Decision
from core.errors import DependencyDown, DeploymentError
from core.settings import Settings
from stack.commands.console import UseCaseArgument, err, out, settings_of_command
from stack.commands.versions import (
    POLL_S,
    ReasonOption,
    WaitOption,
    WithinOption,
    opened_ledger,
    require_declared,
    wake_deployer,
    who,
)

if TYPE_CHECKING:
    from datetime import datetime

    from core.ledger import Ledger
    from serving.promoting import Promotions

_BY_HAND = "by hand"
VersionArgument = Annotated[str, typer.Argument(help="Version of its model in MLflow.")]


def promote(
    use_case: UseCaseArgument,
    version: VersionArgument,
    reason: ReasonOption = _BY_HAND,
    force: Annotated[bool, typer.Option("--force", help="Pass over the gate; needs a --reason.")] = False,
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Make a version the champion. Moves the MLflow alias, which the deployer follows.

    A version without a passed gate is refused unless it is forced. While MLflow is away the request waits in the
    ledger. Exit code 1 if the version does not answer by the end.
    """
    if force and reason == _BY_HAND:
        raise typer.BadParameter("--force needs --reason: say why the gate is passed over")
    settings = settings_of_command()
    require_declared(settings, use_case)
    began = SystemClock().now()
    with opened_ledger(settings) as ledger, _promotions(settings, ledger) as promotions:
        with err().status("moving the alias champion"):
            try:
                promotions.promote(use_case, version, actor=who(), reason=reason, force=force)
            except DependencyDown as error:
                out().print(f"{error}. The request is kept, and carried out once it does.", markup=False)
        held = promotions.judged(use_case, version)
        if held.action == "hold":
            out().print(f"{held.reason}: {held.evidence['how']}", markup=False)
            raise typer.Exit(1)
        _follow(ledger, use_case, version, within_s if wait else 0, began)


def approve(
    use_case: UseCaseArgument,
    version: VersionArgument,
    reason: ReasonOption = _BY_HAND,
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Stand for a version that somebody else wants promoted, where two people have to."""
    settings = settings_of_command()
    require_declared(settings, use_case)
    began = SystemClock().now()
    with opened_ledger(settings) as ledger, _promotions(settings, ledger) as promotions:
        promotions.approve(use_case, version, actor=who(), reason=reason)
        judged = promotions.judged(use_case, version)
        if judged.action != "allow":
            out().print(f"Approved. Yet {judged.reason}: {judged.evidence['how']}", markup=False)
            raise typer.Exit(1)
        _follow(ledger, use_case, version, within_s if wait else 0, began)


def rollback(
    use_case: UseCaseArgument,
    canary: Annotated[bool, typer.Option("--canary", help="Only end the canary that runs.")] = False,
    reason: ReasonOption = _BY_HAND,
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Return to the version that answered before the present one, or from a canary to the champion alone.

    The champion is taken back by the ledger, also while MLflow is away.
    """
    settings = settings_of_command()
    require_declared(settings, use_case)
    if canary:
        from stack.commands.rollout import end_share

        end_share(settings, use_case, "canary", Decision("rollback", reason, {}), within_s if wait else 0)
        return
    began = SystemClock().now()
    with opened_ledger(settings) as ledger, _promotions(settings, ledger) as promotions:
        version = promotions.rollback(use_case, actor=who(), reason=reason)
        _follow(ledger, use_case, version, within_s if wait else 0, began)


@contextmanager
def _promotions(settings: Settings, ledger: Ledger) -> Iterator[Promotions]:
    from registry.mlflow_registry import MlflowRegistry
    from serving.permission import rules_of
    from serving.promoting import Promotions

    registry = MlflowRegistry(settings.mlflow_url)
    yield Promotions(registry, ledger, SystemClock(), rules_of(settings), lambda: wake_deployer(settings))


def _follow(ledger: Ledger, use_case: str, version: str, within_s: float, began: datetime) -> None:
    """Wait until the deployer has put the version into service.

    Raises:
        DeploymentError: if it has not in time, or refused it.
    """
    if not within_s:
        out().print(f"Version {version} of {use_case} is the champion; the deployer switches to it when it is up.")
        return
    with err().status(f"waiting for the deployer to switch {use_case} to version {version}"):
        generation = _await_deployment(ledger, use_case, version, within_s, began)
    took_s = (SystemClock().now() - began).total_seconds()
    out().print(f"Version {version} of {use_case} answers now (generation {generation}), after {took_s:.1f} s.")


def _await_deployment(ledger: Ledger, use_case: str, version: str, within_s: float, began: datetime) -> int:
    deadline = time.monotonic() + within_s
    while (live := ledger.live(use_case)) is None or live.version != version:
        for kind in ("deployment", "promotion"):
            newest = ledger.entries(use_case, kind=kind, version=version, limit=1)
            if newest and newest[0].action in ("refuse", "hold", "keep") and newest[0].recorded_at >= began:
                raise DeploymentError(newest[0].reason)
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"Version {version} of {use_case} is the champion, but does not answer after {within_s:.0f} s. "
                "Is the deployer running? See: evergreen status"
            )
        time.sleep(POLL_S)
    return live.generation
