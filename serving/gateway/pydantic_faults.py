"""Saying what pydantic found in a request as the gateway says everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serving.gateway.problems import Fault, InvalidFields, shown

_REMEDIES = {"extra_forbidden": "Leave it out.", "missing": "Send it."}
_OTHERWISE = "Send what /docs says."
_LONGEST_PART = 60


def invalid_fields(errors: Iterable[Mapping[str, Any]]) -> InvalidFields:
    """The faults of a validation, at least one, as pydantic's ``errors()`` gives them."""
    return InvalidFields([_fault(error) for error in errors])


def _fault(error: Mapping[str, Any]) -> Fault:
    kind = str(error["type"])
    got = "" if kind in _REMEDIES else f", got {shown(error['input'])}"
    return Fault(_path(error["loc"]), f"{error['msg']}{got}.", _REMEDIES.get(kind, _OTHERWISE))


def _path(parts: Iterable[int | str]) -> str:
    """E.g. ``scopes[1]``; names that clients make up are cut, and escaped where they could not be shown."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            name = part[:_LONGEST_PART]
            name = name if name.isprintable() else ascii(name)[1:-1]
            path += f".{name}" if path else name
    return path or "body"
