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
