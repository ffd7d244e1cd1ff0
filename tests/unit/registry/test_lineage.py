from __future__ import annotations

import subprocess
from pathlib import Path

from registry.lineage import UNKNOWN, git_commit


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == UNKNOWN
    assert git_commit(tmp_path / "absent") == UNKNOWN


def test_the_commit_is_the_one_checked_out(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "--no-verify", "-m", "first")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
