"""What stands in the documents' code fences, read so that tests can check and run it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*/*.md")])
NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)
_SHELL = ("console", "bash", "text", "")
_COMMAND = re.compile(r"(\.venv/bin/)?(evergreen|make|curl|python|pip|export) ")

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "make install": (".github/workflows/delivery.yml: make install", "it made what runs the tests"),
    "make demo": (".github/workflows/ci.yml: make demo", "it takes minutes"),
    "make up": (
        "tests/integration/stack/test_whole_stack.py: test_all_of_it_comes_up_works_comes_back_and_goes",
        "it would start the stack of this folder, whose ports may be taken",
    ),
    "make down": (
        "tests/integration/stack/test_whole_stack.py: test_all_of_it_comes_up_works_comes_back_and_goes",
        "it would stop the stack of this folder, which may be in use",
    ),
    "evergreen demo --use-case returns --keep": (
        ".github/workflows/ci.yml: make demo",
        "it takes minutes; there it is of use cases of the project, what is written for returns is trained and judged",
    ),
    "evergreen drill": (
        "tests/e2e/test_the_loop.py: test_a_drill_on_the_running_stack_is_survived_and_leaves_it_as_it_was",
        "all rehearsals take minutes; that test has half of them, test_chaos.py kills the rest of the processes",
    ),
    "evergreen drill taxi_tip --yes --json": (
        "tests/e2e/test_the_loop.py: test_a_drill_on_the_running_stack_is_survived_and_leaves_it_as_it_was",
        "the same, and there it is these words with some --only",
    ),
}
"""Commands that the tests of examples do not run: which file runs them and by what, and why they do not."""

Place = Literal["stack", "folder", "settings"]


@dataclass(frozen=True)
class Command:
    """A line of a shell.

    Args:
        variables: what is set before it, by name.
        words: the command and its arguments; none if variables are exported alone.
    """

    variables: dict[str, str]
    words: list[str]

    @property
    def said(self) -> str:
        """The line without its variables; `evergreen` by that name wherever it is."""
        return " ".join(["evergreen" if self.is_evergreen else word for word in self.words[:1]] + self.words[1:])

    @property
    def is_evergreen(self) -> bool:
        """Whether it is a command of ours."""
        return self.words[:1] in (["evergreen"], [".venv/bin/evergreen"])

    @property
    def place(self) -> Place | None:
        """What it needs to be run: a running stack, a folder, a process's settings; None if nobody knows how."""
        if not self.words:
            return "settings"
        if self.is_evergreen:
            return "folder" if self.words[1] in ("new", "check") else "stack"
        return "stack" if self.words[0] == "curl" else None


def fences(page: Path, *languages: str) -> list[str]:
    """The contents of a page's fences in these languages."""
    return [text for language, text in _FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def python_of(page: Path) -> str:
    """All Python of a page, as one file."""
    return "\n\n".join(fences(page, "python"))


def commands(page: Path) -> list[Command]:
    """The commands of a page.

    In fences of bash every line; in others, which hold output as well, those behind a prompt and those that begin as a
    command does.
    """
    found = []
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in _SHELL:
            continue
        joined = re.sub(r"\\\n\s*", " ", text)
        if language == "bash":
            lines = _statements(joined)
        else:
            typed = (line for line in joined.splitlines() if line.startswith("$ ") or _COMMAND.match(line))
            lines = [line.removeprefix("$ ") for line in typed]
        found += [command for line in lines if (command := _command(line)) is not None]
    return found


def to_run(page: Path, place: Place) -> list[Command]:
    """The commands of a page that are run in this place, in their order."""
    return [each for each in commands(page) if each.place == place and each.said not in ELSEWHERE]


def pages_with(place: Place) -> list[Path]:
    """The pages that have such commands."""
    return [page for page in PAGES if to_run(page, place)]


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
