"""Reading a table from a file, and the Python expression that reads it again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stack.scaffold.errors import TableError

_SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
SUFFIXES = (*_SEPARATORS, ".parquet")


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV, TSV (both also gzipped) or Parquet file.

    Raises:
        TableError: if it is not there, of another kind, cannot be read, or is empty.
    """
    if not path.is_file():
        raise TableError(f"There is no file {path}.", "Give the path of a table with --from.")
    kind = _suffix(path)
    try:
        if kind == ".parquet":
            table = pd.read_parquet(path)
            if not isinstance(table.index, pd.RangeIndex):
                table = table.reset_index()
        else:
            table = pd.read_csv(path, sep=_SEPARATORS[kind], low_memory=False)
    except (OSError, ValueError, EOFError) as error:
        remedy = f"See that it is a {kind} file in UTF-8, with names in its first line."
        raise TableError(f"{path} cannot be read ({type(error).__name__}: {error}).", remedy) from error
    table.columns = [str(name) for name in table.columns]
    twice = sorted(set(table.columns[table.columns.duplicated()]))
    if twice:
        raise TableError(f"{path} has the column {twice[0]!r} twice.", "Rename one of the two in the file.")
    if not len(table) or not len(table.columns):
        raise TableError(f"{path} has no rows.", "Give a table with past questions and what came of them.")
    return table


def reading(path: Path) -> str:
    """The expression by which the use-case file reads the table, of ``data_dir / DATA``."""
    kind = _suffix(path)
    if kind != ".parquet":
        separator = "" if _SEPARATORS[kind] == "," else ', sep="\\t"'
        return f"pd.read_csv(data_dir / DATA{separator}, low_memory=False)"
    return "pd.read_parquet(data_dir / DATA)"


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise TableError(
        f"{path} is of a kind that cannot be read.", f"Give a file that ends in one of: {', '.join(SUFFIXES)}."
    )
