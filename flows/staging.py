"""Trying a winner in the model host before it is registered, where there is one."""

from __future__ import annotations

from pathlib import Path

from core.decision import Decision
from core.errors import DeploymentError, Unavailable
from core.use_case import UseCase
from flows.context import FlowContext
from registry.gate import with_latency
from serving.staging import measure_latency, open_stage


def stage(context: FlowContext, use_case: UseCase, folder: Path, verdict: Decision) -> Decision:
    """Measure how long a winner takes to answer beside the champion, where there is a host to stage it in."""
    champion = verdict.evidence.get("champion", {}).get("version")
    if verdict.action != "promote" or champion is None or use_case.policy.gate.max_latency_ratio is None:
        return verdict
    with open_stage(context.settings) as host:
        if host is None:
            return with_latency(verdict, {"skipped": "versions run in a server elsewhere"})
        try:
            latency = measure_latency(host, folder, use_case=use_case.name, champion=champion)
        except Unavailable as away:
            latency = {"skipped": str(away)}
        except DeploymentError as fault:
            latency = {"fault": str(fault)}
    return with_latency(verdict, latency)


def staged_said(use_case: UseCase, before: Decision, staged: Decision) -> tuple[str, bool]:
    """What came of it, as a clause, and whether nothing was tried."""
    latency = staged.evidence.get("latency")
    if latency is None:
        if before.action != "promote":
            return f"so far the verdict is {before.action}: only a winner is staged", True
        if "champion" not in before.evidence:
            return "the first version: nothing serves that it could be compared with", True
        return "the gate asks for no latency", True
    if "skipped" in latency:
        return str(latency["skipped"]), True
    if "fault" in latency:
        return f"it fails: {latency['fault']}", False
    times = ", ".join(f"{latency[name]:.2f} ms" for name in ("challenger_ms", "champion_ms") if name in latency)
    most = use_case.policy.gate.max_latency_ratio
    return f"{latency['ratio']:.2f} times the champion's latency ({times}), {most:g} times is allowed", False
