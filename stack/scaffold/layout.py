"""Python source laid out as ruff formats it: on one line where it fits, else one part a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

WIDTH = 120


def literal(value: Any) -> str:
    """A number, text, moment, span of time or tuple as source."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, datetime):
        parts: list[int] = [
            value.year,
            value.month,
            value.day,
            value.hour,
            value.minute,
            value.second,
            value.microsecond,
        ]
        while len(parts) > 3 and parts[-1] == 0:
            parts.pop()
        return f"datetime({', '.join(map(str, parts))}, tzinfo=UTC)"
    return repr(value)


def quoted(text: str) -> str:
    """A string literal, with double quotes unless that takes more escapes.

    Example:
        >>> print(quoted("it's"), quoted('say "a"'))
        "it's" 'say "a"'
    """
    body = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    body = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in body)
    if body.count('"') > body.count("'"):
        return "'" + body.replace("'", "\\'") + "'"
    return '"' + body.replace('"', '\\"') + '"'


def span(value: timedelta) -> str:
    """A span of time in the largest unit that it is a whole number of.

    Example:
        >>> span(timedelta(hours=36)), span(timedelta(days=7))
        ('timedelta(hours=36)', 'timedelta(days=7)')
    """
    micros = value // timedelta(microseconds=1)
    for unit, size in (
        ("days", 86_400_000_000),
        ("hours", 3_600_000_000),
        ("minutes", 60_000_000),
        ("seconds", 1_000_000),
    ):
        if micros % size == 0:
            return f"timedelta({unit}={micros // size})"
    return f"timedelta(microseconds={micros})"


def laid_out(opening: str, parts: Sequence[str], closing: str, *, indent: int = 0, after: str = "") -> str:
    """An opening bracket, its parts and the closing bracket.

    Args:
        opening: what comes before the parts, bracket included.
        parts: source of each, on one line or laid out for `indent` + 4.
        closing: the bracket.
        indent: columns before the opening, which the caller writes.
        after: what stands behind the closing bracket on its line.
    """
    one_line = f"{opening}{', '.join(parts)}{closing}{after}"
    if "\n" not in one_line and indent + len(one_line) <= WIDTH:
        return one_line
    inner = " " * (indent + 4)
    return f"{opening}\n" + "".join(f"{inner}{part},\n" for part in parts) + f"{' ' * indent}{closing}{after}"


def exploded(opening: str, parts: Iterable[str], closing: str, *, indent: int = 0) -> str:
    """The same, with one part a line however short."""
    inner = " " * (indent + 4)
    return f"{opening}\n" + "".join(f"{inner}{part},\n" for part in parts) + f"{' ' * indent}{closing}"


def tuple_of(parts: Sequence[str], *, indent: int = 0) -> str:
    """A tuple of several lines; of one part on one line where it fits."""
    if len(parts) == 1 and "\n" not in parts[0] and indent + len(parts[0]) + 20 <= WIDTH:
        return f"({parts[0]},)"
    return exploded("(", parts, ")", indent=indent)


def texts_tuple(values: Sequence[str], *, opening: str = "(", indent: int = 0, after: str = "") -> str:
    """A tuple of texts."""
    if len(values) == 1:
        return f"{opening}{quoted(values[0])},){after}"
    return laid_out(opening, [quoted(v) for v in values], ")", indent=indent, after=after)


def call(function: str, /, *, indent: int = 0, after: str = "", **arguments: str | None) -> str:
    """A call with keyword arguments, given as source; None leaves one out."""
    parts = [f"{key}={value}" for key, value in arguments.items() if value is not None]
    return laid_out(f"{function}(", parts, ")", indent=indent, after=after)
