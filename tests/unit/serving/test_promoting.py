"""Asking for another champion: what is written down, what is refused, and what happens without a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.clock import ManualClock
from core.decision import Decision
from core.errors import DependencyDown, DeploymentError, NotPermitted
from core.ledger import Ledger
from registry.versions import MemoryRegistry, VersionInfo
from serving.permission import FORCE, HOLD, KIND, Rules
from serving.promoting import KEEP, MOVED, Promotions, open_ask
from serving.standing import read_standing

NOW = datetime(2019, 3, 1, tzinfo=UTC)
INFO = VersionInfo(digest="", as_of=NOW, reason="drift", fingerprint="f", log_loss=0.5)


class Away(MemoryRegistry):
    """A registry that does not answer."""

    def set_alias(self, *_: object, **__: object) -> None:
        raise DependencyDown("MLflow", "connection refused")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", ManualClock(NOW))) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture
def registry(tmp_path: Path) -> MemoryRegistry:
    registry = MemoryRegistry(tmp_path / "registry")
    for digest in "abc":
        (tmp_path / digest).mkdir()
        registry.register("toy", tmp_path / digest, INFO.__class__(**{**vars(INFO), "digest": digest}))
    return registry


@pytest.fixture
def asked(ledger: Ledger, registry: MemoryRegistry) -> Promotions:
    return Promotions(registry, ledger, ManualClock(NOW))


def gate(ledger: Ledger, version: str, action: str = "promote") -> int:
    return ledger.record(
        "toy", "gate", Decision(action, "0.01 nats better"), actor="flow retrain", as_of=NOW, version=version
    )


def deploy(ledger: Ledger, version: str, previous: str | None = None) -> None:
    live = ledger.live("toy")
    ledger.deploy(
        "toy", expected_generation=live.generation if live else 0, version=version, previous=previous, actor="t",
        reason="r", as_of=NOW,
    )  # fmt: skip


def actions(ledger: Ledger) -> list[tuple[str, str | None, str]]:
    return [(e.action, e.version, e.actor) for e in reversed(ledger.entries("toy", kind=KIND))]


def test_a_version_that_passed_its_gate_gets_the_alias(
    asked: Promotions, ledger: Ledger, registry: MemoryRegistry
) -> None:
    gate(ledger, "1")
    asked.promote("toy", "1", actor="ops (evergreen)", reason="looks good")
    assert registry.alias("toy", "champion") == "1"
    assert actions(ledger) == [("promote", "1", "ops (evergreen)"), (MOVED, "1", "ops (evergreen)")]
    assert open_ask(ledger.entries("toy", kind=KIND)) is None


@pytest.mark.parametrize("verdict", [None, "keep"])
def test_a_version_without_a_passed_gate_is_refused_and_says_how_to_go_on(
    asked: Promotions, ledger: Ledger, registry: MemoryRegistry, verdict: str | None
) -> None:
    if verdict:
        gate(ledger, "2", verdict)
    with pytest.raises(NotPermitted, match=r"evergreen promote toy 2 --force --reason .* evergreen\.force"):
        asked.promote("toy", "2", actor="ops", reason="by hand")
    assert registry.alias("toy", "champion") is None and actions(ledger) == []


def test_forcing_needs_a_reason_and_is_on_record(asked: Promotions, ledger: Ledger, registry: MemoryRegistry) -> None:
    with pytest.raises(NotPermitted, match="needs a reason"):
        asked.promote("toy", "2", actor="ops", reason=" ", force=True)
    asked.promote("toy", "2", actor="ops", reason="the holdout was broken", force=True)
    assert registry.alias("toy", "champion") == "2"
    assert [(e.action, e.reason) for e in ledger.entries("toy", kind=KIND)][-1] == (FORCE, "the holdout was broken")


def test_what_is_asked_while_the_registry_is_away_stays_open(ledger: Ledger, tmp_path: Path) -> None:
    gate(ledger, "1")
    woken: list[int] = []
    away = Promotions(Away(tmp_path), ledger, ManualClock(NOW), wake=lambda: woken.append(1))
    with pytest.raises(DependencyDown):
        away.promote("toy", "1", actor="ops", reason="by hand")
    ask = open_ask(ledger.entries("toy", kind=KIND))
    assert ask is not None and ask.version == "1" and woken == [1]


def test_a_version_that_does_not_exist_leaves_nothing_open(asked: Promotions, ledger: Ledger) -> None:
    gate(ledger, "9")
    with pytest.raises(DeploymentError, match="no version '9'"):
        asked.promote("toy", "9", actor="ops", reason="by hand")
    assert [action for action, _, _ in actions(ledger)] == ["promote", KEEP]
    assert open_ask(ledger.entries("toy", kind=KIND)) is None


def test_a_rollback_needs_no_registry(ledger: Ledger, tmp_path: Path) -> None:
    away = Promotions(Away(tmp_path), ledger, ManualClock(NOW))
    with pytest.raises(DeploymentError, match="no earlier version"):
        away.rollback("toy", actor="ops", reason="complaints")
    deploy(ledger, "1")
    deploy(ledger, "2", "1")
    assert away.rollback("toy", actor="ops", reason="complaints") == "1"
    assert read_standing(ledger, "toy").barred == {"champion": "2"}
    assert actions(ledger) == [("rollback", "1", "ops")]


def test_a_rollback_does_not_return_to_what_did_worse(asked: Promotions, ledger: Ledger) -> None:
    deploy(ledger, "1")
    deploy(ledger, "2", "1")
    taken = Decision("rollback", "10 % failed", {"role": "champion"})
    ledger.record("toy", "deployment", taken, actor="deployer", as_of=NOW, version="1")
    with pytest.raises(DeploymentError, match="itself taken back: 10 % failed"):
        asked.rollback("toy", actor="ops", reason="complaints")


def test_a_second_person_approves_and_the_first_may_not(ledger: Ledger, registry: MemoryRegistry) -> None:
    asked = Promotions(registry, ledger, ManualClock(NOW), Rules(second_person=True))
    gate(ledger, "1")
    with pytest.raises(NotPermitted, match="Nobody has asked"):
        asked.approve("toy", "1", actor="ben", reason="read the card")
    asked.promote("toy", "1", actor="ops (evergreen)", reason="better")
    assert asked.judged("toy", "1").action == HOLD
    with pytest.raises(NotPermitted, match=r"ops asked .* cannot approve"):
        asked.approve("toy", "1", actor="ops (console)", reason="me again")
    asked.approve("toy", "1", actor="ben (console)", reason="read the card")
    assert asked.judged("toy", "1").action == "allow"
    deploy(ledger, "1")
    with pytest.raises(NotPermitted, match="answers already"):
        asked.approve("toy", "1", actor="ben", reason="again")
