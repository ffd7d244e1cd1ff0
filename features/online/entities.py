"""Which entities a batch of requests asks about, and under which keys their values are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.use_case import Field
from features.streams import Keys, entity_text, partition_of


@dataclass(frozen=True, slots=True)
class Asked:
    """The entities of n requests.

    Args:
        texts: each entity once, as bytes.
        partitions: of each; empty if there is only one.
        place: which of them each request asks about, shape (n,), ``len(texts)`` where one of its fields is null;
            None if each asks about its own, in order.
        has_null: whether a field is null anywhere.
    """

    texts: list[bytes]
    partitions: list[int]
    place: npt.NDArray[np.intp] | None
    has_null: bool

    def keys(self, prefixes: Sequence[bytes]) -> list[bytes]:
        """The entities' keys; `prefixes` are a view's, by partition."""
        if not self.partitions:
            prefix = prefixes[0]
            return [prefix + text for text in self.texts]
        return [prefixes[p] + text for p, text in zip(self.partitions, self.texts, strict=True)]


class KeyGroup:
    """Reads the entity of a combination of fields from requests.

    Args:
        fields: the entity fields, in order.
        partitions: how many there are.

    Example:
        >>> KeyGroup([Field(name="shop", dtype="str")], 1).ask([{"shop": "b"}, {"shop": "a"}, {"shop": "b"}]).place
        array([0, 1, 0])
    """

    def __init__(self, fields: Sequence[Field], partitions: int) -> None:
        self._names = [f.name for f in fields]
        self._required = not any(f.nullable for f in fields)
        self._partitions = partitions

    def ask(self, instances: Sequence[Mapping[str, Any]]) -> Asked:
        """The entities that n requests ask about.

        Raises:
            KeyError: if a request lacks a field that is not nullable.
        """
        texts = self._one_field(instances) if len(self._names) == 1 else self._many_fields(instances)
        known = dict.fromkeys(texts)
        unique, has_null, place = [text for text in known if text is not None], None in known, None
        if len(unique) < len(texts):
            numbers: dict[str | None, int] = {text: i for i, text in enumerate(unique)} | {None: len(unique)}
            place = np.array([numbers[text] for text in texts], dtype=np.intp)
        partitions = [partition_of(text, self._partitions) for text in unique] if self._partitions > 1 else []
        return Asked([text.encode() for text in unique], partitions, place, has_null)

    def _one_field(self, instances: Sequence[Mapping[str, Any]]) -> list[str | None]:
        name = self._names[0]
        values = [row[name] for row in instances] if self._required else [row.get(name) for row in instances]
        return [None if value is None else str(value) for value in values]

    def _many_fields(self, instances: Sequence[Mapping[str, Any]]) -> list[str | None]:
        names = self._names
        if self._required:
            found = [[row[name] for name in names] for row in instances]
        else:
            found = [[row.get(name) for name in names] for row in instances]
        return [None if None in values else entity_text(values) for values in found]


def prefixes(keys: Keys, digest: str, partitions: int) -> list[bytes]:
    """What the keys of a view begin with, by partition."""
    return [keys.entity(partition, digest, "").encode() for partition in range(partitions)]
