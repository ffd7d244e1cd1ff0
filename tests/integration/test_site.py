"""The documents become a site that needs nobody else: strict, and without anything from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|link rel=\"?(?:stylesheet|preconnect))[^>]*(?:src|href)=\"?https?://"
)


def test_the_site_is_whole_and_needs_no_other_host(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("mkdocs")), "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {str(page.relative_to(tmp_path / "site")): page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    assert "evergreen retrain USE_CASE" in pages["command_line.html"]
    assert "holdout_rows" in pages["reference/policy.html"]
    for name, text in pages.items():
        assert not _FROM_ELSEWHERE.search(text), name
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)[\"']?https?://", style.read_text()), style
