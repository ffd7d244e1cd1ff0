"""How large an event's numbers may be: window views keep them as whole multiples of a resolution."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from core.use_case import EventSource, Field, UseCase
from features.definitions import feature_set
from features.tiles import LARGEST_MULTIPLE


def within_resolution(source: EventSource, use_cases: Iterable[UseCase]) -> EventSource:
    """The source with its numeric fields bounded by what the window views of all use cases can keep exactly.

    Example:
        >>> within_resolution(EventSource(name="s", fields=(Field(name="x", dtype="float"),)), []).fields[0].le is None
        True
    """
    largest: dict[str, float] = {}
    for use_case in use_cases:
        for view in feature_set(use_case).window_views:
            if view.source != source.name:
                continue
            for a in view.aggregates:
                read = () if a.kind == "distinct" else (a.field, a.over)
                for name in filter(None, read):
                    largest[name] = min(LARGEST_MULTIPLE * a.resolution, largest.get(name, math.inf))
    return replace(source, fields=tuple(_bounded(field, largest.get(field.name)) for field in source.fields))


def _bounded(field: Field, largest: float | None) -> Field:
    if largest is None or field.dtype == "str":
        return field
    low = -largest if field.ge is None else max(field.ge, -largest)
    high = largest if field.le is None else min(field.le, largest)
    return replace(field, ge=low, le=high)
