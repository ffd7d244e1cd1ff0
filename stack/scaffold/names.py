"""Names for columns: identifiers that a request and an event may bear."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

from core.use_case import RESERVED_NAMES

_LONGEST = 56  # leaves room for a number behind it
_TAKEN_PREFIXES = ("f__", "k__")
_SPELT = {"ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "œ": "oe", "ı": "i"}


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """An identifier for every column, unlike all others.

    Args:
        names: the columns, in order.
        taken: identifiers that none may bear.

    Example:
        >>> identifiers(["Preis (€)", "id", "class", "温度", "2nd", "Preis €"])
        {'Preis (€)': 'preis', 'id': 'id_value', 'class': 'class_value', '温度': 'column_4', '2nd': 'c_2nd', 'Preis €': 'preis_2'}
    """  # noqa: E501 - the answer of an example stands in one line
    wanted = list(names)
    found: dict[str, str] = {}
    used = set(taken)
    # who has a usable name keeps it, whatever others would be called
    for name in (n for n in wanted if _identifier(n, 0) == n and n not in used):
        found[name] = name
        used.add(name)
    for place, name in enumerate(wanted, 1):
        if name in found:
            continue
        base = _identifier(name, place)
        found[name] = unlike(base, used)
        used.add(found[name])
    return {name: found[name] for name in wanted}


def unlike(name: str, used: Iterable[str]) -> str:
    """The name, with a number behind it if it is used already."""
    others, number, candidate = set(used), 1, name
    while candidate in others:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _identifier(name: str, place: int) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    spelt = "".join(_SPELT.get(letter, letter) for letter in words.lower())
    plain = unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()
    text = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:_LONGEST].strip("_")
    if name == name.lower() and re.fullmatch(r"[a-z][a-z0-9_]*", name) and len(name) <= _LONGEST:
        text = name  # underscores at its end or doubled are as good as any
    if not re.search(r"[a-z0-9]", text):
        return f"column_{place}"
    if not text[0].isalpha():
        text = f"c_{text}"
    if text in RESERVED_NAMES or keyword.iskeyword(text) or text.startswith(_TAKEN_PREFIXES):
        return f"{text.lstrip('_')}_value" if not text.startswith(_TAKEN_PREFIXES) else f"c_{text}"
    return text
