"""The page of commands, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

_HEAD = """# Command line

Exit code 0: done, or the answer is yes; 1: the answer is no, or it failed; 2: wrong usage or settings. This page is
made from the commands themselves: `evergreen COMMAND --help` says the same.
"""


def command_page(app: typer.Typer) -> str:
    """Every command of an application as Markdown: what it does, its arguments and its options."""
    return "\n".join([_HEAD, *(_section(path, command) for path, command in leaves(typer.main.get_command(app)))])


def leaves(command: Any, path: str = "evergreen") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words it is called by, in alphabetical order."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield path, command
        return
    for name in sorted(subcommands):
        yield from leaves(subcommands[name], f"{path} {name}")


def _section(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([path, *(_usage(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## {path.removeprefix('evergreen ')}", "", f"```text\n{usage}\n```", "", _text(command.help or "")]
    if arguments or options:
        parts += ["", "| | meaning | default |", "| --- | --- | --- |"]
        parts += [_row(p) for p in (*arguments, *options)]
    return "\n".join([*parts, ""])


def _usage(argument: Any) -> str:
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    else:
        takes = "" if parameter.is_flag else f" {_takes(parameter)}"
        names = ", ".join(f"`{name}{takes}`" for name in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    shown = "" if default in (None, False, "", ()) or callable(default) else f"`{default}`"
    required = "required" if parameter.required else shown
    return f"| {names} | {_text(getattr(parameter, 'help', '') or '')} | {required} |"


def _takes(option: Any) -> str:
    kind = getattr(option.type_descriptor.annotation, "__name__", "value")
    return {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH"}.get(kind, kind.upper())


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
