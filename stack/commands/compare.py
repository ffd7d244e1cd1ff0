"""``compare``: how the versions that share the traffic turn out."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import DeploymentError
from stack.commands.console import (
    JsonOption,
    UseCaseArgument,
    declared_use_case,
    err,
    out,
    say_json,
    settings_of_command,
)
from stack.commands.features import moment_option, settle_log
from stack.commands.versions import opened_ledger

if TYPE_CHECKING:
    import pandas as pd

    from core.ledger import Ledger
    from core.settings import Settings
    from core.use_case import UseCase
    from features.offline.log import OfflineLog
    from monitoring.facts import Interval
    from monitoring.readout import Arm, Readout


def compare(
    use_case: UseCaseArgument,
    since: Annotated[str | None, typer.Option(help="Earliest moment asked about, ISO 8601.")] = None,
    json: JsonOption = False,
) -> None:
    """Set canary and shadow against the champion, on the labels that came back. Exit code 1 if there is neither."""
    from features.offline.log import OfflineLog
    from monitoring.readout import read_out

    settings = settings_of_command()
    declared = declared_use_case(settings, use_case)
    first = moment_option("--since", since)
    with err().status("reading what was answered"):
        with opened_ledger(settings) as ledger:
            sides = _sides(ledger, use_case)
        settle_log(settings)
        readout = read_out(_arms(OfflineLog(settings.offline_dir), settings, declared, sides, first))
    if json:
        say_json({"use_case": use_case, **readout.as_json()})
    else:
        _show(readout)


def _sides(ledger: Ledger, use_case: str) -> dict[str, str]:
    """Who is compared, by role: those of now, else the last ones there were.

    Raises:
        DeploymentError: if there never was a canary or a shadow.
    """
    from serving.wanted import CANARY, CHAMPION, SHADOW

    live = ledger.live(use_case)
    sides = {CHAMPION: live.version} if live else {}
    for role in (CANARY, SHADOW):
        newest = ledger.entries(use_case, kind="deployment", actions=(role,), limit=1)
        if newest and newest[0].version:
            sides[role] = newest[0].version
    if live is None or len(sides) == 1:
        raise DeploymentError(
            f"{use_case} has had no canary or shadow to compare. Begin one with: evergreen canary {use_case} VERSION"
        )
    if live.version in (sides.get(CANARY), sides.get(SHADOW)) and live.previous:  # it was promoted since
        sides[CHAMPION] = live.previous
    return {role: version for role, version in sides.items() if role == CHAMPION or version != sides[CHAMPION]}


def _arms(
    log: OfflineLog, settings: Settings, use_case: UseCase, sides: dict[str, str], since: datetime | None
) -> list[Arm]:
    from core.clock import SystemClock
    from features.streams import ANSWER
    from features.streams import SHADOW as SHADOW_ROLE
    from monitoring.performance import join_labels
    from monitoring.readout import SHADOW, Arm

    roles = [ANSWER, *([SHADOW_ROLE] if SHADOW in sides else [])]
    rows = log.predictions(use_case.name, since=since, roles=roles)
    if rows.empty:
        return []
    labels = log.labels(use_case.name, since=since)
    newest = max([rows["known_at"].max(), *([labels["known_at"].max()] if len(labels) else [])]).to_pydatetime()
    now = newest if settings.clock == "event" else SystemClock().now()
    due = join_labels(rows, labels, use_case.label.horizon, now)
    rows = rows.assign(label=due["label"], unit=_units(use_case, rows))  # those that are not due have none
    is_shadow = rows["role"] == SHADOW_ROLE
    return [
        Arm(role, version, rows.loc[(rows["version"] == version) & (is_shadow == (role == SHADOW))])
        for role, version in sides.items()
    ]


def _units(use_case: UseCase, rows: pd.DataFrame) -> pd.Series:
    """The entity that decides which version answers, as one number per row."""
    names = list(use_case.serving.sticky_by or (use_case.entities[0].name,))
    return rows.groupby(names, dropna=False, sort=False).ngroup()


def _show(readout: Readout) -> None:
    from rich.table import Table

    if readout.since is None or readout.until is None:
        out().print("The versions have not been asked side by side yet.")
        return
    out().print(f"Asked side by side from {readout.since:%Y-%m-%d %H:%M} to {readout.until:%Y-%m-%d %H:%M} UTC.")
    table = Table("role", "version", "predictions", "labelled", "degraded", "mean score", "log-loss", "AUC", box=None)
    for each in readout.versions:
        shares = ("–" if n is None else f"{n:.{digits}{kind}}" for n, digits, kind in (
            (each.degraded_ratio, 1, "%"), (each.mean_score, 4, "f")))  # fmt: skip
        counts = (f"{each.predictions:,}", f"{each.labelled:,}")
        table.add_row(each.role, each.version, *counts, *shares, _text(each.log_loss), _text(each.auc))
    for role, difference in readout.differences.items():
        metrics = (_text(difference[name], "+") for name in ("log_loss", "auc"))
        table.add_row(f"{role} − champion", "", "", "", "", "", *metrics)
    out().print(table)


def _text(interval: Interval | None, sign: str = "") -> str:
    if interval is None:
        return "–"
    return f"{interval.value:{sign}.4f} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"
