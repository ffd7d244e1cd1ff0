"""The pages that looks and the gate leave on disk: listed, and handed out without their being able to do harm."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from serving.gateway.console.state import ReportFile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.(?:html|png|svg|json|csv)")
_FOLDER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_DATED = re.compile(r"(\d{4}-\d\d-\d\dT\d{6})-(gate-|v)(\w+)\.html")
_MEDIA = {".html": "text/html; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml",
          ".json": "application/json", ".csv": "text/csv; charset=utf-8"}  # fmt: skip
_LARGEST = 64 * 1024 * 1024
SANDBOX = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; frame-ancestors 'none'"
)
"""Policy of a report: its own scripts draw its plots, and can reach nothing, the console's cookie least of all."""


def list_reports(folder: Path) -> tuple[ReportFile, ...]:
    """What a use case has in its folder, the newest first; nothing if there is none."""
    try:
        names = [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.suffix == ".html"]
    except OSError:
        return ()
    found = [_listed(name) for name in names]
    oldest = datetime.min.replace(tzinfo=UTC)
    return tuple(sorted(found, key=lambda each: (each.at or oldest, each.name), reverse=True))


def read_report(root: Path, use_case: str, name: str) -> tuple[bytes, str] | None:
    """A report and its media type; None if there is no such file in that use case's folder, whatever the names say."""
    if not _FOLDER.fullmatch(use_case) or not _NAME.fullmatch(name):
        return None
    try:
        folder = (root / use_case).resolve(strict=True)
        path = (folder / name).resolve(strict=True)
        is_inside = folder.parent == root.resolve() and path.parent == folder
        if not is_inside or not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return path.read_bytes(), _MEDIA[path.suffix]
    except OSError:
        return None


def _listed(name: str) -> ReportFile:
    match = _DATED.fullmatch(name)
    if match is None:
        return ReportFile(name, "other", "", None)
    try:
        at = datetime.strptime(match[1], "%Y-%m-%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return ReportFile(name, "other", "", None)
    return ReportFile(name, "gate" if match[2] == "gate-" else "look", match[3], at)
