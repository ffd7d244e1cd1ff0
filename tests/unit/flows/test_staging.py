"""A winner is staged where there is a host, and nothing fails where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.decision import Decision
from core.errors import DeploymentError
from core.policy import GatePolicy, Policy
from core.settings import Settings
from flows import staging
from registry.gate import HoldoutScores, judge
from serving.staging import Stage

RNG = np.random.default_rng(0)
ODDS = RNG.normal(size=1000)
LABELS = (RNG.uniform(size=1000) < 1 / (1 + np.exp(-ODDS))).astype(np.int64)


def verdict(*, sign: int = 1, champion: bool = True) -> Decision:
    good, poor = (1 / (1 + np.exp(-odds)) for odds in (sign * ODDS, ODDS + RNG.normal(size=1000)))
    return judge(HoldoutScores(LABELS, good), HoldoutScores(LABELS, poor, "3") if champion else None, Policy())


def use_case(policy: Policy | None = None) -> Any:
    return SimpleNamespace(name="toy", policy=policy or Policy())


@pytest.fixture
def context(tmp_path: Path) -> Any:
    return SimpleNamespace(settings=Settings(home=tmp_path))


def measuring(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any] | Exception) -> list[str]:
    asked: list[str] = []

    def measure(stage: Stage, folder: Path, *, use_case: str, champion: str) -> Mapping[str, Any]:
        asked.append(champion)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(staging, "measure_latency", measure)
    return asked


def test_without_a_host_the_verdict_stands_with_a_note(context: Any, tmp_path: Path) -> None:
    staged = staging.stage(context, use_case(), tmp_path, verdict())
    assert staged.action == "promote"
    assert "TorchServe does not answer" in staged.evidence["latency"]["skipped"]


@pytest.mark.parametrize(("ratio", "action"), [(1.5, "promote"), (2.5, "keep")])
def test_what_is_measured_counts(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, action: str
) -> None:
    asked = measuring(monkeypatch, {"ratio": ratio})
    assert staging.stage(context, use_case(), tmp_path, verdict()).action == action
    assert asked == ["3"]


def test_a_version_that_fails_there_is_not_promoted(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring(monkeypatch, DeploymentError("its workers die"))
    staged = staging.stage(context, use_case(), tmp_path, verdict())
    assert staged.action == "keep" and "it fails in the staged host: its workers die" in staged.reason


def test_only_a_winner_over_a_champion_is_staged(context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measuring(monkeypatch, {"ratio": 1.0})
    unasked = use_case(replace(Policy(), gate=GatePolicy(max_latency_ratio=None)))
    for declared, judged in (
        (use_case(), verdict(sign=-1)), (use_case(), verdict(champion=False)), (unasked, verdict()),
    ):  # fmt: skip
        assert staging.stage(context, declared, tmp_path, judged) == judged
    assert asked == []


def test_a_server_elsewhere_is_noted(tmp_path: Path) -> None:
    elsewhere = {"kind": "open_inference", "url": "http://127.0.0.1:1", "repository": str(tmp_path)}
    context: Any = SimpleNamespace(settings=Settings(home=tmp_path, host=elsewhere))
    staged = staging.stage(context, use_case(), tmp_path, verdict())
    assert staged.evidence["latency"] == {"skipped": "versions run in a server elsewhere"}
