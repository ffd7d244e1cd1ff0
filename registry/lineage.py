"""Which code a version was trained from."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNKNOWN = "unknown"
_TIMEOUT_S = 5


def git_commit(folder: Path) -> str:
    """The commit checked out where the folder lies, as 40 hex digits; ``unknown`` outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return answer.stdout.strip() if answer.returncode == 0 else UNKNOWN
