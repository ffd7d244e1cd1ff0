"""Whether a version may become champion: a pure function of the ledger's entries and the rules that are set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.decision import Decision
from core.ledger import Deployment, Entry, Ledger
from core.settings import Settings
from registry.versions import FORCE_TAG

KIND = "promotion"
PROMOTE, ROLLBACK, FORCE, APPROVE = "promote", "rollback", "force", "approve"
ALLOW, HOLD, REFUSE, WITHDRAW = "allow", "hold", "refuse", "withdraw"
STANDS_FOR = (PROMOTE, FORCE, APPROVE)


@dataclass(frozen=True)
class Rules:
    """What a version that never answered needs.

    Args:
        require_gate: a passed gate, or somebody who forces it and says why.
        second_person: two different names that stand for it.
    """

    require_gate: bool = True
    second_person: bool = False


def rules_of(settings: Settings) -> Rules:
    """Those that are set."""
    return Rules(settings.promotion.require_gate, settings.promotion.second_person)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a version that is to become champion.

    Args:
        use_case: whose.
        version: which.
        gate: the newest verdict on it.
        asks: promotions, forces and approvals of it, in any order.
        deployments: of the use case, in any order.
        tagged: the reason in its tag ``evergreen.force``; empty without one.
    """

    use_case: str
    version: str
    gate: Entry | None = None
    asks: Sequence[Entry] = ()
    deployments: Sequence[Deployment] = ()
    tagged: str = ""


def permit(known: Known, rules: Rules) -> Decision:
    """Allow, hold or refuse.

    A version that has answered before may answer again: going back must always work. Whoever moves an alias in MLflow
    gives no name, and so does not count among those who stand for the version.

    Example:
        >>> permit(Known(use_case="taxi_tip", version="8"), Rules()).action
        'refuse'
    """
    version, gate = known.version, known.gate
    asks = [ask for ask in known.asks if ask.version == version and ask.action in STANDS_FOR]
    forced = any(ask.action == FORCE for ask in asks) or bool(known.tagged.strip())
    named = sorted({person(ask.actor) for ask in asks})
    evidence = {
        "alias": "champion",
        "gate": gate.id if gate else None,
        "decisions": sorted({ask.id for ask in asks} | ({gate.id} if gate else set())),
        "named": named,
        "forced": forced,
    }
    if any(deployment.version == version for deployment in known.deployments):
        return Decision(ALLOW, f"version {version} has answered before", evidence)
    passed = gate is not None and gate.action == PROMOTE
    if rules.require_gate and not (passed or forced):
        verdict = f"the gate said {gate.action}: {gate.reason}" if gate else "it has passed no gate"
        how = force_remedy(known.use_case, version)
        return Decision(REFUSE, f"version {version} may not become champion: {verdict}", {**evidence, "how": how})
    if rules.second_person and len(named) < 2:
        stands = f"only {named[0]} stands for it" if named else "nobody stands for it by name"
        missing = "another person" if named else "two people"
        how = f"evergreen approve {known.use_case} {version}"
        return Decision(HOLD, f"version {version} waits: {stands}, {missing} must approve", {**evidence, "how": how})
    why = "it was forced" if forced and not passed else "it has passed the gate" if passed else "no gate is required"
    return Decision(ALLOW, f"version {version} may become champion: {why}", evidence)


def force_remedy(use_case: str, version: str) -> str:
    """How a version without a passed gate is made champion all the same."""
    return (
        f'evergreen promote {use_case} {version} --force --reason "…", or set the tag {FORCE_TAG} of the version '
        "in MLflow to the reason"
    )


def person(actor: str) -> str:
    """Who an actor is, wherever they acted; all flows are one.

    Example:
        >>> person("ops (evergreen)") == person("ops (console)"), person("flow retrain")
        (True, 'Evergreen')
    """
    return "Evergreen" if actor.startswith("flow ") else actor.partition(" (")[0]


def held_version(ledger: Ledger, use_case: str) -> str | None:
    """The version that is kept waiting or refused now, where the alias may be although it does not answer."""
    entries = ledger.entries(use_case, kind=KIND, actions=(HOLD, REFUSE, WITHDRAW), limit=1)
    waits = held(entries, ledger.live(use_case))
    return waits.version if waits else None


def held(entries: Sequence[Entry], live: Deployment | None) -> Entry | None:
    """The promotion that is kept waiting or refused now; None if none is.

    Args:
        entries: of the kind ``promotion``, newest first.
        live: the newest deployment.
    """
    newest = next((entry for entry in entries if entry.action in (HOLD, REFUSE, WITHDRAW)), None)
    if newest is None or newest.action == WITHDRAW or (live is not None and live.version == newest.version):
        return None
    return newest
