"""The policy a replay chose, in a file beside the use case: ``models/taxi_tip.policy.json`` for ``models/taxi_tip.py``.

::

    {"policy": {"trigger": {"kind": "performance_drop", "by": 0.1}}, "why": "…", "written_at": "2026-11-26T12:00:00Z"}

What stands in ``policy`` takes the place of what the use case's file declares; everything else stays as declared there.
Delete the file to return to that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import UseCaseError
from core.policy import Policy
from core.policy_json import policy_from_json

_REMEDY = "Correct it, write it anew with evergreen replay --write, or delete it."


def policy_path(use_case_file: Path) -> Path:
    """Where the policy chosen for a use-case file is kept."""
    return use_case_file.with_suffix(".policy.json")


def chosen_policy(use_case_file: Path, declared: Policy) -> Policy:
    """The use case's policy with what was chosen for it; as declared if nothing was.

    Raises:
        UseCaseError: naming the file and what is wrong with it.
    """
    path = policy_path(use_case_file)
    if not path.is_file():
        return declared
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return policy_from_json(found["policy"], declared)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UseCaseError(str(path), f"holds no policy ({type(error).__name__}: {error})", _REMEDY) from error


def write_policy(use_case_file: Path, changed: Mapping[str, Any], *, why: str, written_at: datetime) -> Path:
    """Write what was chosen, whole or not at all, and return where it is.

    Args:
        use_case_file: the use case's.
        changed: fields of the policy as JSON, see `core.policy_json`.
        why: for people.
        written_at: when.
    """
    path = policy_path(use_case_file)
    content = {"policy": dict(changed), "why": why, "written_at": written_at.isoformat()}
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path
