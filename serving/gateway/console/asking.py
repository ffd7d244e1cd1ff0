"""The form before something is done: what it would do, to what, and what speaks against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.ledger import Entry
from serving.gateway.console.acting import ACTIONS, APPROVE, PROMOTE, ROLLBACK, TRAIN
from serving.gateway.console.running import held, live
from serving.gateway.console.state import LedgerFacts

_MOST = 30


@dataclass(frozen=True)
class Choice:
    """A version that can be chosen.

    Args:
        version: its number.
        says: what is known of it.
        passed: whether it has passed the gate, or has answered before.
    """

    version: str
    says: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What the form shows.

    Args:
        action: what would be done.
        title: for people.
        explains: what will happen, as sentences.
        choices: versions to choose from; empty of actions that need none.
        chosen: the one that is chosen already; empty if none is.
        needs_force: whether some choice has not passed the gate.
        obstacle: why it cannot be done; empty if it can.
    """

    action: str
    title: str
    explains: tuple[str, ...]
    choices: tuple[Choice, ...] = ()
    chosen: str = ""
    needs_force: bool = False
    obstacle: str = ""


def asking(action: str, use_case: str, facts: LedgerFacts, runs: Mapping[str, str], chosen: str) -> Asking:
    """What the form of an action shows.

    Args:
        action: one of `ACTIONS`.
        use_case: whose.
        facts: of the ledger.
        runs: versions in the registry; empty if it does not answer.
        chosen: version that was asked for; empty if none was.
    """
    now, title = live(facts), ACTIONS[action]
    champion = f"Version {now.version} answers now." if now else "No version answers yet."
    if action == TRAIN:
        return Asking(action=action, title=title, explains=(
            f"Starts the flow retrain for {use_case}: data checks, training, ONNX, gate, registration.",
            "The new version takes over only if the gate says so. Traffic is not touched meanwhile.",
        ))  # fmt: skip
    if action == ROLLBACK:
        back = now.previous if now else ""
        return Asking(
            action=action, title=f"Roll back to version {back}" if back else title, chosen=back,
            explains=(champion, f"Version {back} takes its place; it is kept warm, so that takes about two seconds.",
                      f"Version {now.version if now else ''} is barred until somebody promotes it again."),
            obstacle="" if back else "There is no earlier version to return to.",
        )  # fmt: skip
    if action == APPROVE:
        waiting = held(facts)
        version = (waiting.version or "") if waiting is not None and waiting.action == "hold" else ""
        return Asking(
            action=action, title=f"Approve version {version}" if version else title, chosen=version,
            explains=(champion, waiting.reason if waiting else ""),
            obstacle="" if version else "No version waits for approval.",
        )  # fmt: skip
    choices = tuple(_choices(facts, runs, now.version if now else ""))
    known = {choice.version for choice in choices}
    return Asking(
        action=PROMOTE, title=title, choices=choices, chosen=chosen if chosen in known else "",
        explains=(champion, "The alias champion moves in MLflow. The deployer verifies the version's digests, loads "
                  "it, tries recorded requests on it, and then sends traffic there; the present one stays warm."),
        needs_force=any(not choice.passed for choice in choices),
        obstacle="" if choices else f"There is no other version yet. Train one: evergreen retrain {use_case}",
    )  # fmt: skip


def _choices(facts: LedgerFacts, runs: Mapping[str, str], champion: str) -> list[Choice]:
    gates: dict[str, Entry] = {}
    for gate in facts.gates:
        if gate.version:
            gates.setdefault(gate.version, gate)
    served = {deployment.version for deployment in facts.deployments}
    versions = sorted({*gates, *served, *runs} - {champion}, key=lambda v: int(v) if v.isdigit() else 0, reverse=True)
    return [_choice(version, gates.get(version), version in served) for version in versions[:_MOST]]


def _choice(version: str, gate: Entry | None, has_served: bool) -> Choice:
    said = ["has answered before"] if has_served else []
    said.append(f"gate: {gate.action}" if gate else "no verdict of the gate is at hand")
    return Choice(version, ", ".join(said), has_served or (gate is not None and gate.action == "promote"))
