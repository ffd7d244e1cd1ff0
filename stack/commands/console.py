"""What commands share: the two consoles, the settings, and how machines are answered."""

from __future__ import annotations

import json
import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import EvergreenError
from core.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from core.use_case import UseCase

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
_WIDE = 240  # columns where nobody sees them: files and pipes should not be wrapped
UseCaseArgument = Annotated[str, typer.Argument(help="Name of a use case in models/.")]


@cache
def out() -> Console:
    """Where results go."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


@cache
def err() -> Console:
    """Where progress goes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def settings_of_command() -> Settings:
    """The settings; libraries a command calls may only warn."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    return load_settings()


def declared_use_case(settings: Settings, name: str) -> UseCase:
    """The use case of that name; wrong usage if there is none."""
    from core.discovery import discover, select
    from core.errors import UnknownUseCase

    try:
        return select(discover(settings.models_dir), name).use_case
    except UnknownUseCase as error:
        raise typer.BadParameter(f"{error.detail} {error.remedy}") from error


def say_json(value: Any) -> None:
    """Print JSON, indented, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def say_error(error: EvergreenError) -> None:
    """Print a failure on standard error."""
    sys.stderr.write(f"{error}\n")


def ago(seconds: float | None) -> str:
    """A duration for people.

    Example:
        >>> ago(12.3), ago(200), ago(None)
        ('12 s', '3 min', '–')
    """
    if seconds is None:
        return "–"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
