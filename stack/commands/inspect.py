"""``status``, ``doctor`` and ``check``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.commands.console import JsonOption, ago, err, out, say_json, settings_of_command

if TYPE_CHECKING:
    from serving.rollout_status import PartStatus
    from stack.status import Status


def status(json: JsonOption = False) -> None:
    """Say what runs, serves and was decided, how each use case does, and how fresh features are.

    Exit code 1 unless all is healthy and no feature is served wrong.
    """
    from stack.status import read_status

    found = read_status(settings_of_command())
    if json:
        say_json(found.as_json())
    else:
        _show(found)
    raise typer.Exit(0 if found.stack == "up" and not found.alarms else 1)


def doctor(json: JsonOption = False) -> None:
    """Say what is missing here and how to get it. Exit code 1 if anything is."""
    from stack.doctor import examine

    findings = []
    for finding in examine(settings_of_command()):
        findings.append(finding)
        if not json:
            mark = "[green]✓[/]" if finding.ok else "[red]✗[/]"
            out().print(f"{mark} [bold]{finding.what}[/]: ", end="")
            out().print(finding.detail, markup=False)
    if json:
        say_json({"ok": all(f.ok for f in findings), "findings": [asdict(f) for f in findings]})
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def check(
    use_case: Annotated[str | None, typer.Argument(help="Name of a use case; without one, all are checked.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Check every file in models/.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not fit and convert the estimators.")] = False,
    json: JsonOption = False,
) -> None:
    """Judge the files in models/. Says what they declare or why they are refused; exit code 1 if one is."""
    from stack.checking import check_use_cases

    if use_case and every:
        raise typer.BadParameter("give a name or --all, not both")
    with err().status("checking"):
        verdicts = check_use_cases(settings_of_command().models_dir, use_case, quick=quick)
    if json:
        say_json([asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            mark = "[green]✓[/]" if verdict.ok else "[red]✗[/]"
            out().print(f"{mark} [bold]{verdict.use_case}[/] ", end="")
            out().print(verdict.detail, markup=False)
    raise typer.Exit(0 if all(verdict.ok for verdict in verdicts) else 1)


def _show(found: Status) -> None:
    from rich.table import Table

    out().print(f"The stack in {found.home} is {found.stack}.")
    table = Table("process", "state", "healthy", "pid", "up for", "restarts", "address", box=None)
    for process in found.processes:
        healthy = "[green]yes[/]" if process.healthy else "[red]no[/]"
        pid = str(process.pid or "–")
        row = (process.name, process.state, healthy, pid, ago(process.uptime_s), str(process.restarts))
        table.add_row(*row, process.address)
    out().print(table)
    table = Table("use case", "champion", "since", "answers", "canary", "shadow", "last decision", box=None)
    for use_case in found.use_cases:
        last = use_case.last_decisions[0] if use_case.last_decisions else None
        said = f"{last['action']}: {last['reason']}" if last else "–"
        since = (use_case.since or "–")[:19]
        split = use_case.split
        parts = (_part(part) for part in (split.champion, split.canary, split.shadow))
        table.add_row(use_case.name, use_case.champion or "–", since, *parts, said)
    out().print(table)
    _show_held(found)
    _show_versions(found)
    _show_judged(found)
    if found.freshness:
        age = found.freshness
        out().print(
            f"Newest event {ago(age.last_event_s)} ago, prediction {ago(age.last_prediction_s)}, "
            f"label {ago(age.last_label_s)}; oldest event that waits to be applied: {ago(age.waiting_s)}."
        )
    _show_features(found)
    for problem in found.problems:
        out().print(f"Problem: {problem}", markup=False)


def _show_held(found: Status) -> None:
    for each in found.use_cases:
        if each.split.held:
            waits = each.split.held
            said = "waits" if waits["action"] == "hold" else "is refused"
            out().print(f"Held for {each.name}: version {waits['version']} {said}: {waits['reason']}", markup=False)
        if each.split.orphan:
            gone = f"version {each.champion} of {each.name} answers, and was deleted in MLflow"
            out().print(f"Problem: {gone}. Promote another one: evergreen promote {each.name} VERSION", markup=False)


def _part(part: PartStatus | None) -> str:
    if part is None:
        return "–"
    share = "" if part.percent is None else f" @ {part.percent:g} %"
    return f"{part.version}{share}" + (f", baking since {part.baking_since[:19]}" if part.baking_since else "")


def _show_versions(found: Status) -> None:
    from rich.table import Table

    table = Table("use case", "version", "requests", "errors", box=None)
    for use_case in found.use_cases:
        for version, counts in use_case.split.versions.items():
            table.add_row(use_case.name, version, f"{counts.requests:,}", f"{counts.errors:,}")
    if table.row_count:
        out().print(table)


def _show_judged(found: Status) -> None:
    from rich.table import Table

    table = Table("use case", "log-loss on labels", "when it was made", "estimated", "drift", box=None)
    for each in found.use_cases:
        if each.performance or each.estimate or each.drift:
            seen, guess = each.performance, each.estimate
            made = f"{seen['reference_log_loss']:.4f}" if seen and seen["reference_log_loss"] is not None else "–"
            estimated = "blind" if guess and guess["blind"] else _bounded(guess)
            table.add_row(each.name, _bounded(seen), made, estimated, _drift_said(each.drift))
    if table.row_count:
        out().print(table)
    for each in found.use_cases:
        for fault in each.faults:
            out().print(f"Fault in {each.name}: {fault['detail']}", markup=False)
        if each.aftermath:
            said = f"{each.aftermath['action']}: {each.aftermath['reason']}"
            out().print(f"Since {each.name} version {each.aftermath['version']} was promoted: {said}", markup=False)
        for alert in each.alerts:
            out().print(f"Alert for {each.name}: {alert['title']}. {alert['command']}", markup=False)


def _bounded(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "–"
    value = found["log_loss"]
    return f"{value['value']:.4f} ({value['low']:.4f} to {value['high']:.4f}) of {found['rows']:,}"


def _drift_said(drift: Mapping[str, Any] | None) -> str:
    if drift is None:
        return "–"
    if not drift["called"]:
        return "none"
    return f"{', '.join(drift['called'])}: {', '.join(dict.fromkeys(each['column'] for each in drift['over']))}"


def _show_features(found: Status) -> None:
    from rich.table import Table

    table = Table("use case", "view", "newest data", box=None)
    for use_case in found.use_cases:
        for i, (name, view) in enumerate(use_case.views.items()):
            moment = (view.newest_at or "none yet")[:19]
            age = "" if view.age_s is None else f", {ago(view.age_s)} ago"
            table.add_row("" if i else use_case.name, name, f"{moment}{age}")
    if table.row_count:
        out().print(table)
    if found.partitions:
        table = Table("partition", "waiting", "for", "events", "duplicates", "late", box=None)
        for each in found.partitions:
            counts = (f"{n:,}" for n in (each.events, each.duplicates, each.late))
            table.add_row(str(each.partition), f"{each.waiting_entries:,}", ago(each.waiting_s), *counts)
        out().print(table)
