"""``evergreen demo``: the whole loop on real history, from an empty folder to a report."""

from __future__ import annotations

import json
import math
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from core.discovery import UseCaseFile, discover, select
from core.errors import StackError
from core.ledger import Ledger
from core.settings import Settings
from core.use_case import UseCase
from features.connection import connect
from features.offline.audit import AuditReport, audit_features
from features.offline.log import OfflineLog
from features.streaming.worker import settle
from features.streams import Keys
from stack.comparison import Comparison, compare_with_frozen
from stack.delivery_times import DeliveryTimes, delivery_times, slowest_parts
from stack.local import LocalStack
from stack.replay import PrefectOrchestrator, Progress, Replay, ReplayPlan, ReplayResult
from stack.report import decisions_shown, draw, first_caught, summary, write_page, write_summary

_AUDITED = 1000
_WITH_PORTS = ("redis", "mlflow", "prefect", "torchserve", "gateway", "stream")


@dataclass(frozen=True)
class _Outcome:
    """What the demo has to show."""

    result: ReplayResult
    comparison: Comparison
    audit: AuditReport
    values: dict[str, Any]
    times: list[DeliveryTimes]


def run(settings: Settings, use_case: str, keep: bool) -> int:
    """Run the demo.

    Args:
        settings: as of the command line; the demo's stack lives in ``<home>/demo/<use case>``.
        use_case: which one.
        keep: leave the stack running.

    Returns:
        0 if no request failed and every audited feature agreed, 1 otherwise.
    """
    console = Console()
    _require_own_stack(settings)
    loaded = select(discover(settings.models_dir), use_case)
    if loaded.use_case.replay is None:
        raise StackError(f"{use_case} declares no replay=ReplaySpan(…), so there is nothing to show.")
    folder = settings.home / "demo"
    demo_settings = _demo_settings(settings, folder / use_case)
    with console.status("reading the history"):
        history = loaded.use_case.history(settings.data_dir)
    _say_what_was_dropped(console, history.dropped, len(history.requests))
    with _stack(console, demo_settings, keep):
        plan = ReplayPlan(use_case=loaded.use_case, history=history, span=loaded.use_case.replay)
        result = _replay(console, demo_settings, plan)
        outcome = _judge(demo_settings, loaded, result)
        _publish(demo_settings, loaded, outcome, folder)
        _print(console, demo_settings, loaded, outcome, folder)
        _print_addresses(console, settings, demo_settings, loaded.use_case, keep)
    ok = not result.record.failed and outcome.audit.is_clean
    return 0 if ok else 1


def _demo_settings(settings: Settings, home: Path) -> Settings:
    """The demo's own settings: its own folder, event time, and other ports where the usual ones are taken."""
    old = settings.model_copy(update={"home": home})
    if LocalStack(old).is_up():
        LocalStack(old).down()
    shutil.rmtree(home, ignore_errors=True)
    # Months pass in seconds, and flows ask for the log when they need it: write it in larger pieces.
    stream = settings.stream.model_copy(update={"flush_every_s": 20.0})
    moved: dict[str, Any] = {"home": home, "clock": "event", "stream": stream}
    return settings.model_copy(update=moved | free_ports(settings.model_copy(update=moved)))


def free_ports(settings: Settings) -> dict[str, Any]:
    """Groups of settings with the ports they name, or free ones in place of those that are taken."""
    moved = {}
    for group in _WITH_PORTS:
        values = getattr(settings, group)
        ports = {name: _port(getattr(values, name)) for name in type(values).model_fields if name.endswith("port")}
        moved[group] = values.model_copy(update=ports)
    return moved


def _require_own_stack(settings: Settings) -> None:
    external = [g for g in ("redis", "mlflow", "prefect", "ledger") if getattr(settings, g).url]
    if external:
        names = ", ".join(f"EVERGREEN_{group.upper()}__URL" for group in external)
        raise StackError(
            f"The demo replays history into a stack of its own, but {names} names an external one. Unset it, "
            "and try again."
        )


def _port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
            return wanted
        except OSError:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


@contextmanager
def _stack(console: Console, settings: Settings, keep: bool) -> Iterator[None]:
    stack = LocalStack(settings)
    with console.status("starting the stack") as status:
        ready: list[str] = []

        def report(name: str, state: str) -> None:
            if state == "ready":
                ready.append(name)
                status.update(f"starting the stack: {', '.join(ready)} ready")

        started = stack.up(report)
    console.print(f"The stack is up after {started.seconds:.0f} s: {', '.join(p.name for p in stack.processes)}.")
    try:
        yield
    except BaseException:
        stack.down()
        raise
    if not keep:
        with console.status("stopping the stack"):
            stack.down()


def _replay(console: Console, settings: Settings, plan: ReplayPlan) -> ReplayResult:
    columns = (
        TextColumn("{task.fields[date]}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(),
        TextColumn("version {task.fields[version]}  log-loss {task.fields[loss]}  {task.fields[doing]}"),
    )  # fmt: skip
    span = plan.span
    total = (span.end - span.start).total_seconds()
    with Bar(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task("replay", total=total, date=f"{span.start:%Y-%m-%d}", version="-", loss="-", doing="")
        last = [""]

        def show(progress: Progress) -> None:
            loss = "-" if math.isnan(progress.log_loss) else f"{progress.log_loss:.3f}"
            bar.update(
                task, completed=(progress.now - span.start).total_seconds(), date=f"{progress.now:%Y-%m-%d}",
                version=progress.version, loss=loss, doing=progress.doing,
            )  # fmt: skip
            if progress.doing != last[0] and progress.doing.startswith(("retraining", "deploying", "training")):
                bar.console.print(f"{progress.now:%Y-%m-%d %H:%M}  {progress.doing}, log-loss {loss}")
            last[0] = progress.doing

        return Replay(settings, plan, PrefectOrchestrator(settings), show).run()


def _judge(settings: Settings, loaded: UseCaseFile, result: ReplayResult) -> _Outcome:
    from registry.mlflow_registry import MlflowRegistry
    from registry.version_folder import load_version

    use_case = loaded.use_case
    settle(connect(settings), Keys(settings.redis.namespace), settings.stream.partitions)
    log = OfflineLog(settings.offline_dir)
    first = next(r.version for r in result.retrains if r.version is not None)
    folder = MlflowRegistry(settings.mlflow_url).fetch(use_case.name, first, settings.home / "frozen")
    since = use_case.replay.compare_from if use_case.replay else None
    comparison = compare_with_frozen(log, use_case, load_version(folder).scorer.score, since)
    audit = audit_features(log, use_case, rows=_AUDITED, partitions=settings.stream.partitions)
    times = delivery_times(Ledger(settings.ledger_url).entries(use_case.name))
    values = summary(use_case, result, comparison, times) | {
        "audited_predictions": audit.rows,
        "feature_mismatches": sum(audit.mismatches.values()),
    }
    return _Outcome(result, comparison, audit, values, times)


def _publish(settings: Settings, loaded: UseCaseFile, outcome: _Outcome, folder: Path) -> None:
    plot, page = folder / "comparison.png", folder / "report.html"
    write_summary(folder / "summary.json", outcome.values)
    draw(outcome.comparison, outcome.result.retrains, loaded.use_case, plot)
    entries = Ledger(settings.ledger_url).entries(loaded.use_case.name)
    write_page(page, outcome.values, outcome.comparison, entries, plot)


def _print(console: Console, settings: Settings, loaded: UseCaseFile, outcome: _Outcome, folder: Path) -> None:
    decisions = Table(title="Decisions", title_justify="left")
    for column in ("event time", "kind", "action", "version", "reason"):
        decisions.add_column(column, overflow="fold")
    for entry in decisions_shown(Ledger(settings.ledger_url).entries(loaded.use_case.name)):
        if entry.kind != "data_check":
            decisions.add_row(
                f"{entry.as_of:%Y-%m-%d %H:%M}", entry.kind, entry.action, entry.version or "", entry.reason
            )
    console.print(decisions)
    months = Table(title="Log-loss per month", title_justify="left")
    for column in ("month", "predictions", "frozen first model", "Evergreen", "versions"):
        months.add_column(column, justify="left" if column in ("month", "versions") else "right")
    for row in outcome.comparison.months.to_dict("records"):
        numbers = [f"{row['predictions']:,}", f"{row['frozen']:.4f}", f"{row['evergreen']:.4f}"]
        months.add_row(row["month"], *numbers, row["versions"])
    console.print(months)
    _print_times(console, outcome)
    record, comparison = outcome.result.record, outcome.comparison
    console.print(
        f"{record.predictions:,} predictions, {len(record.failed)} failed requests, {record.degraded:,} degraded. "
        f"Since {comparison.since:%Y-%m-%d}: frozen {comparison.frozen:.4f}, Evergreen {comparison.evergreen:.4f} "
        f"({comparison.gain:.1%} less). {outcome.audit.rows} served feature vectors recomputed offline: "
        f"{sum(outcome.audit.mismatches.values())} values differ."
    )
    for failure in record.failed[:5]:
        console.print(f"failed: {failure}", style="red")
    console.print(
        f"Report: {folder / 'report.html'}   picture: {folder / 'comparison.png'}   {folder / 'summary.json'}"
    )


def _print_times(console: Console, outcome: _Outcome) -> None:
    """From the decision to retrain until the new version answers: where the time goes."""
    times = outcome.times
    if not times:
        return
    caught = first_caught(outcome.result.retrains, outcome.comparison.since)
    shown = next((each for each in times if caught is not None and each.version == caught.version), times[-1])
    table = Table(title="From drift to serving, seconds", title_justify="left")
    for column in ("part", f"version {shown.version} ({shown.trigger})", f"median of {len(times)}", "longest"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, usual, longest in slowest_parts(times):
        table.add_row(name, f"{shown.parts.get(name, 0.0):.2f}", f"{usual:.2f}", f"{longest:.2f}")
    wholes = [("total", "total_s"), ("of that fitting", "fit_s"), ("everything but fitting", "other_s")]
    for i, (name, attribute) in enumerate(wholes):
        values = [getattr(each, attribute) for each in times]
        row = [f"{getattr(shown, attribute):.2f}", f"{median(values):.2f}", f"{max(values):.2f}"]
        table.add_row(name, *row, style="bold", end_section=i == len(wholes) - 1)
    console.print(table)


def _print_addresses(console: Console, usual: Settings, settings: Settings, use_case: UseCase, keep: bool) -> None:
    drift = settings.home / "reports" / use_case.name / "latest.html"
    console.print(f"MLflow    {settings.mlflow_url}")
    console.print(f"Prefect   {settings.prefect_api_url.removesuffix('/api')}")
    console.print(f"Gateway   {settings.gateway_url}/docs")
    if settings.console.enabled:
        console.print(f"Console   {settings.console_url}/{use_case.name}")
    console.print(f"Evidently {drift}", soft_wrap=True)
    url = f"{settings.gateway_url}/v1/models/{use_case.name}/predict"
    headers = {"Content-Type": "application/json"}
    if use_case.replay is not None:
        headers["X-Evergreen-Now"] = f"{use_case.replay.end:%Y-%m-%dT%H:%M:%SZ}"
    instance = {f.name: f.example for f in use_case.request_fields if f.example is not None}
    body = json.dumps({"instances": [instance]})
    shown = " ".join(f"-H '{name}: {value}'" for name, value in headers.items())
    console.print("A live prediction, and its answer:")
    console.print(f"curl -s {url} {shown} -d '{body}'", soft_wrap=True, highlight=False)
    console.print(httpx.post(url, headers=headers, content=body, timeout=30).text, soft_wrap=True, highlight=False)
    if keep:
        variables = " ".join(f"{name}={value}" for name, value in _variables(usual, settings).items())
        console.print(f"The stack goes on; stop it with: {variables} .venv/bin/evergreen down", soft_wrap=True)
    else:
        console.print("The stack stops now; run make demo KEEP=1 to keep it.")


def _variables(usual: Settings, settings: Settings) -> dict[str, str]:
    """The environment variables by which the command line finds the demo's stack."""
    found = {"EVERGREEN_HOME": str(settings.home), "EVERGREEN_CLOCK": settings.clock}
    for group in _WITH_PORTS:
        before, after = getattr(usual, group).model_dump(), getattr(settings, group).model_dump()
        changed = {name: value for name, value in after.items() if value != before[name]}
        found |= {f"EVERGREEN_{group}__{name}".upper(): str(value) for name, value in changed.items()}
    return found


def _say_what_was_dropped(console: Console, dropped: Any, left: int) -> None:
    reasons = ", ".join(f"{rows:,} {name}" for name, rows in dropped.items() if rows)
    console.print(f"History: {left:,} questions; left out by the data checks: {reasons or 'nothing'}.")
