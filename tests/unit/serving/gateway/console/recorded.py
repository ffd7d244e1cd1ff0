"""Entries as flows and deployer write them, and pages made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from core.ledger import Deployment, Entry
from core.use_case import UseCase
from registry.versions import Desired
from serving.feature_status import FeatureStatus
from serving.gateway.console.flow_runs import FlowRun
from serving.gateway.console.state import RETRAIN, FlowFacts, Found, LedgerFacts, Links, RegistryFacts, State
from serving.gateway_report import Report, Tally
from serving.routing import Route, Share

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
NAME = "tip"


def entry(id: int, kind: str, action: str, *, days: float = 0.0, version: str | None = None, **evidence: Any) -> Entry:
    at = NOW - timedelta(days=days)
    return Entry(id, NAME, kind, action, f"because of {id}", evidence, "flow", version, at, at)


def interval(value: float) -> Mapping[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def look(id: int, days: float, loss: float, *, version: str = "7", **facts: Any) -> Entry:
    seen = {
        "version": version, "rows": 900, "reference_log_loss": 0.5, "labels_since_training": 1200,
        "performance": {"rows": 800, "coverage": 0.8, "log_loss": interval(loss), "auc": interval(0.7)},
        "drift": {"rows": 900, "columns": 3, "over": [], "called": []}, **facts,
    }  # fmt: skip
    return entry(id, "trigger", "wait", days=days, version=version, facts=seen)


def deployment(generation: int, version: str, previous: str | None, days: float) -> Deployment:
    at = NOW - timedelta(days=days)
    return Deployment(NAME, generation, version, previous, "ops (console)", "it is better", at, at)


def ledger(**facts: Any) -> LedgerFacts:
    given = {"deployments": (deployment(2, "7", "6", 3), deployment(1, "6", None, 30))}
    return LedgerFacts(**{**given, **facts})


def run(id: str, use_case: str, state: str, *, hours: float = 0.0) -> FlowRun:
    is_final = state in ("Completed", "Failed")
    return FlowRun(id, f"run-{id}", "d-1", state, is_final, use_case, NOW + timedelta(hours=hours), 12.5)


def state(use_case: UseCase, facts: LedgerFacts | None = None, **others: Any) -> State:
    tallies = {
        f"{NAME}/7": Tally(1000, 10, [0] * 4 + [990] + [0] * 9),
        f"{NAME}/8": Tally(50, 0, [0] * 5 + [50] + [0] * 8),
    }
    report = Report({}, {}, tallies, 0)
    route = Route("7", 2, canary=Share("8", 5.0))
    scheduled = {RETRAIN: (run("a", "other", "Scheduled", hours=1), run("b", "all", "Scheduled", hours=5))}
    whole = State(
        use_case=use_case, now=NOW, is_replay=False, ledger=Found(facts or ledger()),
        features=Found(FeatureStatus(routes={NAME: route}, reports=[report])),
        registry=Found(RegistryFacts(Desired({"champion": "7"}), {"8": "run8", "7": "run7"})),
        flows=Found(FlowFacts(scheduled, (run("c", NAME, "Running"),))), route=route, latency={}, reports=(),
        links=Links("http://mlflow", "http://prefect"),
    )  # fmt: skip
    return replace(whole, **others)
