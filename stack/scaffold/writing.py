"""Putting the table under the data folder and the file into ``models/``."""

from __future__ import annotations

import keyword
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from core.discovery import UseCaseFile, load_use_case
from stack.scaffold.columns import numbers
from stack.scaffold.declaration import Declaration
from stack.scaffold.errors import TableError
from stack.scaffold.tables import reading
from stack.scaffold.text import use_case_text

_TAKEN = (
    "entities", "request", "values", "outcomes", "history", "estimator", "places", "past_of", "asked_at", "known_at",
    "label_of", "as_declared", "as_text", "request_features", "np", "npt", "pd", "datetime", "timedelta", "all",
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        loaded: the use case, loaded from its file and validated.
        table: where the table lies now.
        is_copy: whether it was copied there.
    """

    loaded: UseCaseFile
    table: Path
    is_copy: bool


def check_name(name: str, models_dir: Path, *, force: bool) -> None:
    """Raise TableError unless a use case may bear the name and its file may be written."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise TableError(
            f"{name!r} is not a usable name.",
            "Use up to 40 lower-case letters, digits and underscores, a letter first.",
        )
    if name in _TAKEN:
        raise TableError(f"The name {name!r} stands for something else in the file.", f"Use {name}_model, for one.")
    path = models_dir / f"{name}.py"
    if path.exists() and not force:
        raise TableError(f"{path} is there already.", "Choose another name, or overwrite it with --force.")


def write_use_case(
    declared: Declaration, table: pd.DataFrame, source: Path, *, models_dir: Path, data_dir: Path
) -> Written:
    """Copy the table unless it lies under the data folder, write the file, and load it.

    A file that cannot be loaded is not left behind.

    Args:
        declared: what the file says.
        table: as read.
        source: where it was read from.
        models_dir: the folder of use-case files.
        data_dir: the folder that histories are read from.

    Raises:
        UseCaseError: if the file is refused.
        TableError: if the table cannot be copied.
    """
    place, is_copy = _placed(source, data_dir, declared.name)
    means = {f.name: float(numbers(table[f.column]).mean()) for f in declared.values}
    text = use_case_text(declared, place.relative_to(data_dir.resolve()).as_posix(), reading(source), base=means)
    models_dir.mkdir(parents=True, exist_ok=True)
    path = models_dir / f"{declared.name}.py"
    before = path.read_bytes() if path.exists() else None
    path.write_text(text, encoding="utf-8")
    try:
        return Written(load_use_case(path), place, is_copy)
    except BaseException:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
        raise


def _placed(source: Path, data_dir: Path, name: str) -> tuple[Path, bool]:
    found, folder = source.resolve(), data_dir.resolve()
    if found.is_relative_to(folder):
        return found, False
    target = folder / name / source.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, target)
    except OSError as error:
        raise TableError(
            f"{source} cannot be copied to {target} ({error.strerror or error}).",
            "Make room, or set EVERGREEN_DATA_DIR to a folder that can be written.",
        ) from error
    return target, True
