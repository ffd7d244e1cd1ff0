"""Instances of a batch of calls as columns: what each row says, and what a call says once for all of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.use_case import Field
from features.columns import column_array

Run = tuple[int, Mapping[str, Any]]


class Instances:
    """The fields of n instances.

    Args:
        rows: n mappings.
        runs: how many of the rows, in order, share which further fields; together they cover all n rows.

    Example:
        >>> asked = Instances([{"ad": 1}, {"ad": 2}, {"ad": 1}], [(2, {"user": "a"}), (1, {"user": "b"})])
        >>> asked.column("user"), asked.column("ad")
        (['a', 'a', 'b'], [1, 2, 1])
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], runs: Sequence[Run] = ()) -> None:
        self.rows = rows
        self.runs = [(n, shared) for n, shared in runs if n]
        self._sizes = np.array([n for n, _ in self.runs], dtype=np.intp)
        self._columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """The field's value in each instance; None where it is null or absent."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._gather(name)
        return found

    def shared(self, name: str) -> list[Any] | None:
        """The field's value in each run, if it is one that all of them share; else None."""
        if not self.runs or not all(name in fields for _, fields in self.runs):
            return None
        return [fields[name] for _, fields in self.runs]

    def spread(self, per_run: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What there is one of per run, as one per instance."""
        return np.repeat(per_run, self._sizes)

    def arrays(self, fields: Sequence[Field], at_us: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays of n, as `features.columns.request_columns` makes them, ``at`` among them.

        Raises:
            TypeError, ValueError, OverflowError: if a value is not of its field's type.
        """
        found: dict[str, npt.NDArray[Any]] = {}
        for field in fields:
            shared = self.shared(field.name)
            if shared is None:
                found[field.name] = column_array(field, self.column(field.name))
            else:
                found[field.name] = self.spread(column_array(field, shared))
        found["at"] = at_us
        return found

    def plain(self, picked: Sequence[int] | None = None) -> list[Mapping[str, Any]]:
        """Each instance with all of its fields; of those `picked`, if given."""
        rows: list[Mapping[str, Any]] = list(self.rows)
        if self.runs:
            owners = self.spread(np.arange(len(self.runs)))
            rows = [{**self.runs[owner][1], **row} for owner, row in zip(owners.tolist(), rows, strict=True)]
        return rows if picked is None else [rows[i] for i in picked]

    def _gather(self, name: str) -> list[Any]:
        if not self.runs:
            return [row.get(name) for row in self.rows]
        values: list[Any] = []
        start = 0
        for n, fields in self.runs:
            stop = start + n
            if name in fields:
                values += [fields[name]] * n
            else:
                values += [row.get(name) for row in self.rows[start:stop]]
            start = stop
        return values
