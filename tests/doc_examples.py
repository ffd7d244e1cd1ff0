"""What stands in the documents' code fences, read so that tests can check it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)
_SHELL = ("console", "bash", "sh", "text", "")


@dataclass(frozen=True)
class Command:
    """A line of a shell.

    Args:
        variables: what is set before it, by name.
        words: the command and its arguments; none if variables are exported alone.
    """

    variables: dict[str, str]
    words: list[str]


def fences(page: Path, *languages: str) -> list[str]:
    """The contents of a page's fences in these languages."""
    return [text for language, text in _FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[Command]:
    """The commands of a page.

    In console fences those behind a prompt, in fences of text or of no language those of ours, else every line.
    """
    found = []
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in _SHELL:
            continue
        joined = re.sub(r"\\\n\s*", " ", text)
        lines = joined.splitlines()
        if language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        elif language in ("text", ""):
            lines = [line for line in lines if re.match(r"(\.venv/bin/)?evergreen ", line)]
        else:
            lines = _statements(joined)
        found += [command for line in lines if (command := _command(line)) is not None]
    return found


def _statements(text: str) -> list[str]:
    """Lines, of which those go together between which a quote is open."""
    found, begun = [], ""
    for line in text.splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            shlex.split(begun, comments=True)
        except ValueError:
            continue
        found.append(begun)
        begun = ""
    assert not begun, f"a quote is left open: {begun}"
    return found


def _command(line: str) -> Command | None:
    words = shlex.split(line, comments=True)
    variables: dict[str, str] = {}
    while words and (words[0] == "export" or re.fullmatch(r"[A-Z_]+=.*", words[0], re.S)):
        word = words.pop(0)
        if word != "export":
            name, value = word.split("=", 1)
            variables[name] = value
    return Command(variables, words) if words or variables else None
