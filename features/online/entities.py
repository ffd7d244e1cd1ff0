"""Which entities a batch of requests asks about, and under which keys their values are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from core.use_case import Field
from features.online.instances import Instances
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

    def ask(self, instances: Instances | Sequence[Mapping[str, Any]]) -> Asked:
        """The entities that n requests ask about.

        Raises:
            KeyError: if a request lacks a field that is not nullable.
        """
        asked = instances if isinstance(instances, Instances) else Instances(instances)
        shared = [asked.shared(name) for name in self._names]
        per_run = None not in shared
        columns = shared if per_run else [asked.column(name) for name in self._names]
        texts = self._texts(cast(list[list[Any]], columns))
        known = dict.fromkeys(texts)
        unique, has_null, place = [text for text in known if text is not None], None in known, None
        if len(unique) < len(texts) or per_run:
            numbers: dict[str | None, int] = {text: i for i, text in enumerate(unique)} | {None: len(unique)}
            place = np.array([numbers[text] for text in texts], dtype=np.intp)
            place = asked.spread(place) if per_run else place
        partitions = [partition_of(text, self._partitions) for text in unique] if self._partitions > 1 else []
        return Asked([text.encode() for text in unique], partitions, place, has_null)

    def _texts(self, columns: Sequence[Sequence[Any]]) -> list[str | None]:
        for name, column in zip(self._names, columns, strict=True):
            if self._required and None in column:
                raise KeyError(name)
        if len(columns) == 1:
            return [None if value is None else str(value) for value in columns[0]]
        return [None if None in values else entity_text(values) for values in zip(*columns, strict=True)]


def prefixes(keys: Keys, digest: str, partitions: int) -> list[bytes]:
    """What the keys of a view begin with, by partition."""
    return [keys.entity(partition, digest, "").encode() for partition in range(partitions)]
