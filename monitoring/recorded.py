"""Facts as JSON, for the ledger, and read back from it."""

from __future__ import annotations

from functools import cache
from typing import Any, Self

from pydantic import TypeAdapter


class Recorded:
    """What dataclasses of facts inherit.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Seen(Recorded):
        ...     rows: int
        >>> Seen.from_json(Seen(3).as_json())
        Seen(rows=3)
    """

    def as_json(self) -> dict[str, Any]:
        """As JSON, for the ledger."""
        kind: Any = type(self)
        found: dict[str, Any] = _adapter(kind).dump_python(self, mode="json")
        return found

    @classmethod
    def from_json(cls, recorded: Any) -> Self:
        """The facts that were recorded.

        Raises:
            pydantic.ValidationError: if they are not such facts.
        """
        kind: Any = cls
        found: Self = _adapter(kind).validate_python(recorded)
        return found


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
