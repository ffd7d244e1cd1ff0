"""Checking the instances of a predict call: at once where they are as they should be, one by one where they are not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.use_case import Field
from serving.gateway.problems import Fault, InvalidFields, shown
from serving.gateway.validation import (
    INT_MAX,
    LARGEST_EXACT,
    LONGEST_TEXT,
    RecordRules,
    moment_rule,
    read_records,
    record_rules,
    rule_for,
)

Moments = list[tuple[str, int | None]] | None
"""Path of each instance's ``at``, and the moment it says; None if no instance says any."""
_MOST_SHAPES = 64
_FEW = 3


class InstanceRules:
    """The rules for ``{"context": {…}, "instances": [{…}, …]}``.

    A field stands in the context if it is the same for all instances, else in each of them.

    Args:
        fields: the use case's request fields.
        most: most instances accepted.

    Example:
        >>> rules = InstanceRules([Field(name="user", dtype="int"), Field(name="ad", dtype="int")], 10)
        >>> rules.read({"context": {"user": 7}, "instances": [{"ad": 1}, {"ad": 2}]})
        ([{'ad': 1}, {'ad': 2}], {'user': 7}, None)
    """

    def __init__(self, fields: Sequence[Field], most: int) -> None:
        self._fields = {field.name: field for field in fields}
        self._most = most
        self._whole = self._shape(())
        self._shapes: dict[tuple[str, ...], _Shape] = {}

    def read(self, document: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None, Moments]:
        """The clean rows, the clean context, and the moments.

        Raises:
            InvalidFields: naming what is wrong.
        """
        context = document.pop("context", None)
        if context is None:
            return self._rows(document, self._whole, None)
        if type(context) is not dict or not context:
            detail = f"Must be an object with fields, got {shown(context)}."
            raise InvalidFields([Fault("context", detail, "Name the fields that all instances share, or omit it.")])
        names = tuple(context)
        shape = self._shapes.get(names) or self._learn(names)
        if not shape.shared.fits(context):
            faults: list[Fault] = []
            clean = shape.context.check(context, "context", faults)
            if clean is None:
                raise InvalidFields(faults)
            context = clean
        return self._rows(document, shape, context)

    def _rows(
        self, document: dict[str, Any], shape: _Shape, context: dict[str, Any] | None
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None, Moments]:
        rows = document.get("instances")
        if type(rows) is list and len(document) == 1 and 0 < len(rows) <= self._most and shape.own.fit(rows):
            return rows, context, None
        clean, faults = read_records(document, "instances", self._most, shape.rows.check)
        if faults:
            raise InvalidFields(faults)
        moments = [(f"instances[{i}].at", row.pop("at")) for i, row in enumerate(clean)]
        return clean, context, moments if any(at is not None for _, at in moments) else None

    def _learn(self, names: tuple[str, ...]) -> _Shape:
        unknown = sorted(set(names) - self._fields.keys())
        if unknown:
            remedy = f"Leave it out; the fields are: {', '.join(sorted(self._fields))}."
            raise InvalidFields([Fault(f"context.{name[:60]}", "There is no such field.", remedy) for name in unknown])
        shape = self._shape(names)
        if len(self._shapes) < _MOST_SHAPES:
            self._shapes[names] = shape
        return shape

    def _shape(self, shared: Sequence[str]) -> _Shape:
        own = [field for name, field in self._fields.items() if name not in shared]
        return _Shape(
            context=RecordRules({name: rule_for(self._fields[name]) for name in shared}),
            rows=record_rules(own, at=moment_rule(required=False)),
            shared=_Exact(self._fields[name] for name in shared),
            own=_Exact(own),
        )


@dataclass(frozen=True, slots=True)
class _Shape:
    """The rules for one choice of which fields stand in the context."""

    context: RecordRules
    rows: RecordRules
    shared: _Exact
    own: _Exact


class _Exact:
    """Says at once that records have exactly the fields, each of its own type and in its bounds; no says nothing.

    It accepts less than the rules do: neither nulls, nor fields that are left out, nor a whole number for a float.
    """

    def __init__(self, fields: Iterable[Field]) -> None:
        known = list(fields)
        self._n = len(known)
        self._numbers = [_bounds(f) for f in known if f.dtype != "str"]
        self._texts = [f.name for f in known if f.dtype == "str"]

    def fits(self, record: dict[str, Any]) -> bool:
        """Whether one record does."""
        if len(record) != self._n:
            return False
        try:
            for name, kind, low, high in self._numbers:
                value = record[name]
                if type(value) is not kind or not low <= value <= high:
                    return False
            for name in self._texts:
                value = record[name]
                if type(value) is not str or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
                    return False
        except KeyError:
            return False
        return True

    def fit(self, records: list[Any]) -> bool:
        """Whether all of them do: column by column where there are many."""
        if set(map(type, records)) != {dict}:
            return False
        if len(records) <= _FEW:
            return all(map(self.fits, records))
        if set(map(len, records)) != {self._n}:
            return False
        try:
            for name, kind, low, high in self._numbers:
                numbers = [record[name] for record in records]
                if set(map(type, numbers)) != {kind} or not low <= min(numbers) or not max(numbers) <= high:
                    return False
            for name in self._texts:
                texts = [record[name] for record in records]
                if set(map(type, texts)) != {str} or not "".join(texts).isprintable():
                    return False
                lengths = list(map(len, texts))
                if not min(lengths) > 0 or not max(lengths) <= LONGEST_TEXT:
                    return False
        except KeyError:
            return False
        return True


def _bounds(field: Field) -> tuple[str, Any, float, float]:
    """Name, type, lowest and highest value of a number."""
    if field.dtype == "float":
        kind: type = float
        largest = math.inf  # JSON knows no infinity, so that none gets here
    else:
        kind, largest = int, LARGEST_EXACT if field.nullable else INT_MAX
    low = -largest if field.ge is None else max(-largest, field.ge)
    high = largest if field.le is None else min(largest, field.le)
    return field.name, kind, low, high
