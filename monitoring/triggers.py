"""When to retrain: a pure function of what was seen at a look and of the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.decision import Decision
from core.policy import Policy
from core.policy_json import policy_as_json, policy_from_json
from monitoring.answers import Answer, answer
from monitoring.facts import Fault, MonitorFacts

RETRAIN, WAIT, ALARM = "retrain", "wait", "alarm"


def decide_retrain(facts: MonitorFacts, policy: Policy) -> Decision:
    """Decide whether to retrain now.

    Faults of the data page a person and block any retrain: a model must not learn from a broken stream.

    Args:
        facts: what one look saw.
        policy: the use case's.

    Returns:
        Action ``retrain``, ``wait`` or ``alarm``. Its evidence is JSON: ``facts`` and ``policy``, from which
        `redecide` comes to the same; ``curve``, the loss of the newest windows as `LossPoint.shown` has it;
        ``answers``, what each trigger said and why; ``fired``, the names of those that call for a retrain, and
        ``trigger``, the first of them, when it is one; ``faults`` when it is an alarm.

    Example:
        >>> from datetime import UTC
        >>> seen = MonitorFacts(as_of=datetime(2019, 2, 2, tzinfo=UTC), version=None, trained_at=None,
        ...                     last_retrain_at=None, rows=0)
        >>> decide_retrain(seen, Policy()).reason
        'no version answers yet, so there is nothing to watch'
    """
    evidence: dict[str, Any] = {"facts": facts.as_json(), "policy": policy_as_json(policy)}
    evidence["curve"] = [point.shown() for point in facts.losses]
    if facts.version is None:
        return Decision(WAIT, "no version answers yet, so there is nothing to watch", evidence)
    said = answer(policy.calls_for, facts, policy)
    evidence |= {"answers": said.as_json(), "fired": [leaf.name for leaf in said.leaves if leaf.fired]}
    if faults := (*facts.faults, *_breaks(facts)):
        return Decision(ALARM, _blocked(faults, said), evidence | {"faults": [vars(fault) for fault in faults]})
    if said.fired:
        first = next(leaf for leaf in said.leaves if leaf.fired)
        return Decision(RETRAIN, said.reason, evidence | {"trigger": first.name})
    return Decision(WAIT, f"no trigger fired: {said.reason}", evidence)


def redecide(evidence: Mapping[str, Any]) -> Decision:
    """Decide again on what a decision was made from.

    Args:
        evidence: of a decision by `decide_retrain`, as it was recorded.

    Raises:
        KeyError: if it holds no facts and no policy.
        ValueError: if they cannot be read.
    """
    return decide_retrain(MonitorFacts.from_json(evidence["facts"]), policy_from_json(evidence["policy"]))


def _breaks(facts: MonitorFacts) -> tuple[Fault, ...]:
    """What no change of the world explains, and what training on it would only feed.

    A model whose ranking is upside down beyond doubt was not overtaken by events: its labels, or its inputs, are.
    """
    seen = facts.performance
    if seen is None or seen.auc is None or not seen.auc.high < 0.5:
        return ()
    detail = (
        f"the version ranks upside down: AUC {seen.auc.value:.3f}, at most {seen.auc.high:.3f}, on {seen.rows} "
        "labelled rows; labels or inputs are turned around"
    )
    return (Fault(column="label", kind="labels flipped", detail=detail),)


def _blocked(faults: tuple[Fault, ...], said: Answer) -> str:
    what = "; ".join(f"{fault.kind}{f' in {fault.column}' if fault.column else ''}: {fault.detail}" for fault in faults)
    also = f" (blocked: {said.reason})" if said.fired else ""
    return f"the data are at fault, nothing is trained on them{also}: {what}"
