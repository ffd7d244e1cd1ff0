"""What a policy must hold to: what is wrong in one is said when a use case is loaded, and not at night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import get_args

from core.errors import UseCaseError
from core.policy import AftermathPolicy, DriftPolicy, GatePolicy, Policy, Selection
from core.triggers import (
    DRIFT_KINDS,
    AllOf,
    AnyOf,
    Drift,
    EstimatedDrop,
    KOf,
    NewLabels,
    PerformanceDrop,
    Schedule,
    Trigger,
    WorthIt,
)

Fault = tuple[str, str]
_NOTHING = timedelta(0)
_SELECTIONS = ("all", "window", "exponential", "validated")


def check_policy(use_case: str, policy: Policy, *, request: Sequence[str], features: Sequence[str]) -> None:
    """Refuse a policy that cannot be followed.

    Args:
        use_case: whose, for the message.
        policy: as declared or chosen.
        request: names of the request's fields, entities included.
        features: names of the feature columns.

    Raises:
        UseCaseError: naming the first value at fault, and the remedy.
    """
    for problem, remedy in _faults(policy, request, features):
        raise UseCaseError(use_case, problem, remedy)


def _faults(policy: Policy, request: Sequence[str], features: Sequence[str]) -> Iterator[Fault]:
    unknown = [name for name in policy.segments if name not in request and name not in features]
    if unknown:
        yield (
            f"looks separately by {unknown}, which are neither request fields nor features",
            f"In Policy.segments, use names of features, or of: {', '.join(request)}.",
        )
    yield from _of_spans(policy)
    yield from _of_numbers(policy)
    for selection in policy.selections:
        yield from _of_selection(selection)
    yield from _of_drift(policy.drift)
    yield from _of_gate(policy.gate)
    yield from _of_aftermath(policy.aftermath)
    if policy.trigger is not None:
        yield from _of_trigger(policy.trigger, "Policy.trigger")


def _of_spans(policy: Policy) -> Iterator[Fault]:
    for name in ("training_window", "monitor_window", "monitor_every", "materialize_every", "retrain_every"):
        yield from _above_zero(f"Policy.{name}", getattr(policy, name))
    if policy.cooldown < _NOTHING:
        yield f"has the Policy.cooldown {policy.cooldown}", "Use a time that is not below zero."


def _of_numbers(policy: Policy) -> Iterator[Fault]:
    for name in ("holdout_rows", "min_monitor_rows"):
        yield from _at_least_one(f"Policy.{name}", getattr(policy, name))
    if not policy.min_rows > policy.holdout_rows:
        yield (
            f"has the Policy.min_rows {policy.min_rows}, of which {policy.holdout_rows} are held out",
            "Use more than holdout_rows: the rest is trained on.",
        )
    yield from _above_zero("Policy.performance_drop", policy.performance_drop)
    if not policy.min_gain < 1:
        yield f"has the Policy.min_gain {policy.min_gain:g}", "Use less than 1: no version loses less than nothing."


def _of_selection(selection: Selection) -> Iterator[Fault]:
    if selection.kind not in _SELECTIONS:
        yield f"has a Selection of the kind {selection.kind!r}", f"Use one of: {', '.join(_SELECTIONS)}."
    yield from _above_zero("Selection.window", selection.window)
    yield from _above_zero("Selection.half_life", selection.half_life)


def _of_drift(drift: DriftPolicy) -> Iterator[Fault]:
    yield from _between("DriftPolicy.false_alarms", drift.false_alarms, 0, 1)
    if not 1 <= drift.over <= drift.of:
        yield (
            f"calls drift when {drift.over} of {drift.of} windows are over",
            "In DriftPolicy, use over from 1 to of.",
        )
    yield from _not_below_zero("DriftPolicy.min_effect", drift.min_effect)


def _of_gate(gate: GatePolicy) -> Iterator[Fault]:
    yield from _between("GatePolicy.confidence", gate.confidence, 0.5, 1)
    for name in ("segment_margin", "calibration_margin", "old_regime_margin"):
        yield from _not_below_zero(f"GatePolicy.{name}", getattr(gate, name))
    yield from _at_least_one("GatePolicy.min_segment_rows", gate.min_segment_rows)
    if gate.max_latency_ratio is not None:
        yield from _above_zero("GatePolicy.max_latency_ratio", gate.max_latency_ratio)


def _of_aftermath(aftermath: AftermathPolicy) -> Iterator[Fault]:
    yield from _above_zero("AftermathPolicy.period", aftermath.period)
    yield from _between("AftermathPolicy.confidence", aftermath.confidence, 0, 1)
    yield from _not_below_zero("AftermathPolicy.margin", aftermath.margin)
    yield from _at_least_one("AftermathPolicy.min_rows", aftermath.min_rows)


def _of_trigger(trigger: Trigger, where: str) -> Iterator[Fault]:
    if isinstance(trigger, AnyOf | AllOf | KOf):
        yield from _of_combination(trigger, where)
    elif isinstance(trigger, Drift):
        if not trigger.kinds or not set(trigger.kinds) <= set(DRIFT_KINDS):
            yield f"has in {where} Drift of the kinds {list(trigger.kinds)}", f"Use some of: {', '.join(DRIFT_KINDS)}."
    elif isinstance(trigger, NewLabels):
        yield from _at_least_one(f"{where} NewLabels.rows", trigger.rows)
    elif isinstance(trigger, Schedule | PerformanceDrop | EstimatedDrop | WorthIt):
        for field in fields(trigger):
            yield from _above_zero(f"{where} {type(trigger).__name__}.{field.name}", getattr(trigger, field.name))
    elif not isinstance(trigger, get_args(Trigger)):
        known = ", ".join(each.__name__ for each in get_args(Trigger))
        yield f"has in {where} {trigger!r}, which is no trigger", f"Use one of: {known}."


def _of_combination(trigger: AnyOf | AllOf | KOf, where: str) -> Iterator[Fault]:
    fewest, many = trigger.k if isinstance(trigger, KOf) else 1, len(trigger.triggers)
    if not 1 <= fewest <= many:
        yield (
            f"has in {where} {type(trigger).__name__} of {many} triggers, of which {fewest} must fire",
            "Name at least as many triggers as must fire, and let one or more fire.",
        )
    for i, part in enumerate(trigger.triggers):
        yield from _of_trigger(part, f"{where}.triggers[{i}]")


def _above_zero(what: str, value: float | timedelta) -> Iterator[Fault]:
    is_above = value > _NOTHING if isinstance(value, timedelta) else value > 0
    if not is_above:
        yield f"has the {what} {value}", "Use more than zero."


def _not_below_zero(what: str, value: float) -> Iterator[Fault]:
    if not value >= 0:
        yield f"has the {what} {value}", "Use a number that is not below zero."


def _at_least_one(what: str, value: int) -> Iterator[Fault]:
    if not value >= 1:
        yield f"has the {what} {value}", "Use at least 1."


def _between(what: str, value: float, low: float, high: float) -> Iterator[Fault]:
    if not low < value < high:
        yield f"has the {what} {value}", f"Use a number between {low:g} and {high:g}, neither of them."
