"""``canary`` and ``shadow``."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from core.clock import SystemClock
from core.decision import Decision
from core.errors import DeploymentError
from core.settings import Settings
from stack.commands.console import UseCaseArgument, err, out, settings_of_command
from stack.commands.versions import (
    POLL_S,
    ReasonOption,
    WaitOption,
    WithinOption,
    opened_ledger,
    record_by_hand,
    require_declared,
    wake_deployer,
)

if TYPE_CHECKING:
    from datetime import datetime

    from core.ledger import Ledger
    from serving.routing import Share

VersionArgument = Annotated[str | None, typer.Argument(help="Version of its model in MLflow.")]
EndOption = Annotated[bool, typer.Option("--end", help="End it instead of beginning one.")]
PercentOption = Annotated[float, typer.Option(help="How much of the traffic it gets.", min=0, max=100)]


def canary(
    use_case: UseCaseArgument,
    version: VersionArgument = None,
    percent: PercentOption = 10,
    end: EndOption = False,
    reason: ReasonOption = "by hand",
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Let a version answer a share of the entities. It is taken back by itself if it does worse than the champion."""
    _change("canary", use_case, version, percent, end, reason, within_s if wait else 0)


def shadow(
    use_case: UseCaseArgument,
    version: VersionArgument = None,
    percent: PercentOption = 100,
    end: EndOption = False,
    reason: ReasonOption = "by hand",
    wait: WaitOption = True,
    within_s: WithinOption = 60,
) -> None:
    """Ask a version too, without a client ever getting its answers. They are logged, for: evergreen compare."""
    _change("shadow", use_case, version, percent, end, reason, within_s if wait else 0)


def _change(
    role: str, use_case: str, version: str | None, percent: float, is_end: bool, reason: str, within_s: float
) -> None:
    if is_end == (version is not None):
        raise typer.BadParameter(f"give the version that is to be {role}, or --end")
    settings = settings_of_command()
    require_declared(settings, use_case)
    if version is None:
        end_share(settings, use_case, role, Decision("end", reason, {}), within_s)
    else:
        _begin(settings, use_case, role, version, percent, reason, within_s)


def end_share(settings: Settings, use_case: str, role: str, decision: Decision, within_s: float) -> None:
    """Take the alias of a role away, write down why, and wait until nothing is sent there any more.

    Raises:
        DeploymentError: if no version has the role, or the deployer does not follow.
    """
    from registry.mlflow_registry import MlflowRegistry

    registry = MlflowRegistry(settings.mlflow_url)
    version = registry.alias(use_case, role)
    if version is None:
        raise DeploymentError(f"{use_case} has no {role} to end. See: evergreen status")
    registry.set_alias(use_case, role, None)
    wake_deployer(settings)
    began = SystemClock().now()
    with opened_ledger(settings) as ledger:
        told = Decision(decision.action, decision.reason, {"alias": role, **decision.evidence})
        record_by_hand(ledger, use_case, told, version)
        if within_s:
            _await(settings, ledger, use_case, role, None, began, within_s)
    out().print(f"Version {version} of {use_case} is {role} no longer.")


def _begin(
    settings: Settings, use_case: str, role: str, version: str, percent: float, reason: str, within_s: float
) -> None:
    from registry.mlflow_registry import MlflowRegistry
    from serving.routing import Share
    from serving.wanted import PERCENT_TAGS

    with opened_ledger(settings) as ledger:
        _require_free(ledger, use_case, role, version)
        began = SystemClock().now()
        with err().status(f"moving the alias {role}"):
            registry = MlflowRegistry(settings.mlflow_url)
            registry.set_alias(use_case, role, version, {PERCENT_TAGS[role]: f"{percent:g}"})
            wake_deployer(settings)
        record_by_hand(ledger, use_case, Decision(role, reason, {"alias": role, "percent": percent}), version)
        if within_s:
            _await(settings, ledger, use_case, role, Share(version, percent), began, within_s)
    told = "is" if within_s else "is to be"
    out().print(f"Version {version} of {use_case} {told} its {role}, with {percent:g} % of the traffic.")


def _require_free(ledger: Ledger, use_case: str, role: str, version: str) -> None:
    """Check that the deployer would follow.

    Raises:
        DeploymentError: naming what is in the way.
    """
    from serving.standing import read_standing

    live = ledger.live(use_case)
    if live is None:
        raise DeploymentError(
            f"{use_case} has no champion that a {role} could stand beside. Begin with: "
            f"evergreen promote {use_case} {version}"
        )
    if live.version == version:
        raise DeploymentError(f"Version {version} of {use_case} is its champion. Name another one as {role}.")
    if read_standing(ledger, use_case).barred.get(role) == version:
        raise DeploymentError(
            f"Version {version} of {use_case} was taken back and its alias {role} is not gone yet. Take it away first: "
            f"evergreen {role} {use_case} --end"
        )


def _await(
    settings: Settings,
    ledger: Ledger,
    use_case: str,
    role: str,
    share: Share | None,
    began: datetime,
    within_s: float,
) -> None:
    """Wait until every gateway sends the share where it is wanted.

    Raises:
        DeploymentError: if the deployer has not made it so in time, or refused the version.
    """
    from serving.routes import RedisRouteTable, is_followed

    deadline = time.monotonic() + within_s
    with closing(RedisRouteTable.connect(settings)) as table, err().status("waiting for the deployer"):
        while True:
            route = table.routes().get(use_case)
            if route is not None and getattr(route, role) == share and is_followed(table.reports(), use_case, route):
                return
            newest = ledger.entries(use_case, kind="deployment", limit=1)
            if newest and newest[0].action == "refuse" and newest[0].recorded_at >= began:
                raise DeploymentError(newest[0].reason)
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"The {role} of {use_case} is not as wanted after {within_s:.0f} s. Is the deployer running? "
                    "See: evergreen status"
                )
            time.sleep(POLL_S)
