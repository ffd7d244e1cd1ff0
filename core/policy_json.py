"""Policies as JSON: recorded with every decision made by them, and written beside a use case by a replay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter

from core.policy import Policy
from core.triggers import AllOf, AnyOf, KOf, Trigger

_KINDS: Mapping[str, type] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", each.__name__).lower(): each for each in get_args(Trigger)
}
_NAMES = {each: kind for kind, each in _KINDS.items()}


def trigger_as_json(trigger: Trigger) -> dict[str, Any]:
    """A trigger as JSON, with its ``kind``; durations in ISO 8601.

    Example:
        >>> from core.triggers import PerformanceDrop
        >>> trigger_as_json(AnyOf((PerformanceDrop(0.1),)))
        {'kind': 'any_of', 'triggers': [{'kind': 'performance_drop', 'by': 0.1}]}
    """
    found: dict[str, Any] = {"kind": _NAMES[type(trigger)]}
    if isinstance(trigger, AnyOf | AllOf | KOf):
        found |= {"k": trigger.k} if isinstance(trigger, KOf) else {}
        return found | {"triggers": [trigger_as_json(each) for each in trigger.triggers]}
    declared: Any = type(trigger)
    plain: dict[str, Any] = _adapter(declared).dump_python(trigger, mode="json")
    return found | plain


def trigger_from_json(recorded: Mapping[str, Any]) -> Trigger:
    """The trigger that was recorded.

    Raises:
        ValueError: if it is none (pydantic's ValidationError is one), naming what is wrong.
    """
    given = dict(recorded)
    kind = given.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"there is no kind of trigger {kind!r}; use one of: {', '.join(_KINDS)}")
    declared = _KINDS[kind]
    names = {f.name for f in fields(declared)}
    if unknown := sorted(set(given) - names):
        raise ValueError(f"a trigger of kind {kind!r} has no {unknown[0]!r}; it has: {', '.join(sorted(names))}")
    if declared in (AnyOf, AllOf, KOf):
        given["triggers"] = tuple(trigger_from_json(each) for each in given.get("triggers", ()))
        if not len(given["triggers"]) >= int(given.get("k", 1)) >= 1:
            raise ValueError(f"a trigger of kind {kind!r} lacks triggers to choose from")
        made: Trigger = declared(**given)
        return made
    found: Trigger = _adapter(declared).validate_python(given)
    return found


def policy_as_json(policy: Policy) -> dict[str, Any]:
    """A policy as JSON, whole; durations in ISO 8601."""
    found: dict[str, Any] = _adapter(Policy).dump_python(replace(policy, trigger=None), mode="json")
    return found | {"trigger": policy.trigger and trigger_as_json(policy.trigger)}


def policy_from_json(recorded: Mapping[str, Any], base: Policy | None = None) -> Policy:
    """The policy that was recorded; what is not there is as in `base`, or as it is by default.

    Raises:
        ValueError: if it is no policy, naming what is wrong.
    """
    names = {f.name for f in fields(Policy)}
    if unknown := sorted(set(recorded) - names):
        raise ValueError(f"a policy has no {unknown[0]!r}; it has: {', '.join(sorted(names))}")
    given = {**({} if base is None else policy_as_json(base)), **recorded}
    trigger = given.pop("trigger", None)
    found: Policy = _adapter(Policy).validate_python(given)
    return replace(found, trigger=trigger and trigger_from_json(trigger))


@cache
def _adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)
