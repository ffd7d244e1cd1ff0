"""Checking the rows of batch views, and bringing them into the form in which the offline log keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.errors import DataError, EvergreenError, UseCaseError
from core.use_case import Field, UseCase
from features.definitions import BatchView
from features.streams import entity_text

_NUMBERS = ("floating", "integer", "mixed-integer-float", "decimal", "boolean", "empty")


def moments(use_case: UseCase, view: BatchView, rows: pd.DataFrame, column: str) -> pd.Series:
    """When each row of a table became true, in UTC; naive moments are UTC already.

    Raises:
        DataError: if the column is missing, or holds a null or something that is no moment.
    """
    where = f"{use_case.name}: view {view.name!r}"
    if column not in rows.columns:
        raise DataError(
            f"{where}: its table has no column {column!r}. It has: {', '.join(map(str, rows.columns))}. "
            "Name the column in at, or rename it."
        )
    if len(rows) == 0:
        return pd.Series([], index=rows.index, dtype="datetime64[us, UTC]")
    given = rows[column]
    try:
        if pd.api.types.is_numeric_dtype(given) and given.notna().any():
            raise ValueError("numbers have no unit")
        is_text = pd.api.types.infer_dtype(given, skipna=True) == "string"
        at = pd.to_datetime(given, utc=True, format="ISO8601" if is_text else None).astype("datetime64[us, UTC]")
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{where}: column {column!r} of its table holds what is no moment ({error}). "
            "Use timestamps, or text like 2019-02-02T03:00:00."
        ) from error
    if at.isna().any():
        raise DataError(
            f"{where}: column {column!r} of its table is null in {int(at.isna().sum())} rows. Fill it or drop the rows."
        )
    return at


def as_rows(
    use_case: UseCase, view: BatchView, rows: pd.DataFrame, *, at: pd.Series, known_at: pd.Series
) -> tuple[pd.DataFrame, int]:
    """Rows of a view as the offline log keeps them.

    Args:
        use_case: whose view.
        view: the view.
        rows: the entity fields and outputs.
        at: when each row became true; NaT: timeless.
        known_at: when each became known; NaT: since ever.

    Returns:
        ``entity``, ``at``, ``known_at`` and the outputs as float32; and how many rows were left out because an
        entity field was null.

    Raises:
        UseCaseError: naming view and column, if the view's function yields something else than it declares.
        DataError: likewise of a table without such a function.
    """
    missing = [name for name in (*view.keys, *view.outputs) if name not in rows.columns]
    if missing:
        has = ", ".join(map(str, rows.columns)) or "none"
        raise _fault(use_case, view, f"lack the column {missing[0]!r}; they have: {has}", "Add or rename it.")
    present = rows[list(view.keys)].notna().all(axis=1).to_numpy()
    rows, at, known_at = rows[present], at[present], known_at[present]
    frame = pd.DataFrame({"entity": _entities(use_case, view, rows)}, index=rows.index).assign(at=at, known_at=known_at)
    for output in view.outputs:
        frame[output] = _numbers(use_case, view, output, rows[output])
    twice = frame.duplicated(["entity", "at"])
    if twice.any():
        entity, moment = frame.loc[twice, ["entity", "at"]].iloc[0]
        when = "" if pd.isna(moment) else f" at {moment.isoformat()}"
        raise _fault(
            use_case,
            view,
            f"have {'+'.join(view.keys)} = {entity!r} twice{when}",
            "Give one row per entity and moment.",
        )
    return frame.reset_index(drop=True), int((~present).sum())


def _entities(use_case: UseCase, view: BatchView, rows: pd.DataFrame) -> npt.NDArray[Any]:
    fields = {f.name: f for f in use_case.entities}
    parts = [_key_texts(use_case, view, fields[key], rows[key]) for key in view.keys]
    texts = parts[0] if len(parts) == 1 else [entity_text(values) for values in zip(*parts, strict=True)]
    return np.array(texts, dtype=object)


def _key_texts(use_case: UseCase, view: BatchView, field: Field, values: pd.Series) -> list[str]:
    """As requests name them: an integer that came as a float, for its column has nulls, is an integer again."""
    if field.dtype == "str":
        return [str(value) for value in values.tolist()]
    try:
        whole = [int(value) for value in values.tolist()]
        broken = [given for given, value in zip(values.tolist(), whole, strict=True) if value != float(given)]
    except (TypeError, ValueError, OverflowError) as error:
        raise _fault(use_case, view, f"have a {field.name!r} that is no integer ({error})", "Use integers.") from error
    if broken:
        raise _fault(use_case, view, f"have {field.name!r} = {broken[0]}, which is no integer", "Use integers.")
    return [str(value) for value in whole]


def _numbers(use_case: UseCase, view: BatchView, output: str, values: pd.Series) -> npt.NDArray[np.float32]:
    """As float32, null as NaN."""
    is_number = pd.api.types.is_numeric_dtype(values) or pd.api.types.infer_dtype(values, skipna=True) in _NUMBERS
    if not is_number or pd.api.types.is_complex_dtype(values):
        raise _fault(use_case, view, f"have {output!r} of type {values.dtype}, which is no number", "Convert it.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
        found = np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan)).astype(np.float32)
    infinite = np.flatnonzero(np.isinf(found))
    if len(infinite):
        raise _fault(
            use_case,
            view,
            f"have {output!r} = {values.iloc[infinite[0]]} in {len(infinite)} rows, which float32 cannot hold",
            "Clip it, or make it null.",
        )
    return found


def _fault(use_case: UseCase, view: BatchView, problem: str, remedy: str) -> EvergreenError:
    if view.compute is not None:
        return UseCaseError(use_case.name, f"the rows computed for view {view.name!r} {problem}", remedy)
    return DataError(f"{use_case.name}: the rows of the table of view {view.name!r} {problem}. {remedy}")
