"""Pages that are made when the documents are built: mkdocs.yml names this file as a hook."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File

from stack.cli import app
from stack.command_page import command_page


def on_files(files: Any, config: Any) -> Any:
    """Add the page of commands."""
    files.append(File.generated(config, "command_line.md", content=command_page(app)))
    return files
