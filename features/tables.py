"""Tables that batch views read: Parquet, CSV, or a query to a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TableAccess:
    """What a table needs to be read.

    Args:
        data_dir: folder that paths are relative to.
        databases: SQLAlchemy URLs by name.
    """

    data_dir: Path
    databases: Mapping[str, str] = field(default_factory=dict)


class Table(Protocol):
    """Rows with a moment each; must give the same rows for the same arguments as long as nothing is added."""

    @property
    def at(self) -> str | None:
        """The column that says when a row became true, naive times read as UTC; None: rows are timeless."""
        ...

    @property
    def known_after(self) -> timedelta:
        """How long after it became true a row is known."""
        ...

    def read(self, access: TableAccess) -> pd.DataFrame:
        """All rows.

        Raises:
            DataError: if the table cannot be read, naming it and the remedy.
        """
        ...

    def spec(self) -> dict[str, Any]:
        """What identifies the table, as JSON."""
        ...


@dataclass(frozen=True, kw_only=True)
class ParquetTable:
    """A Parquet file, or a folder of them.

    Args:
        path: relative to the data folder.
        at: column that says when a row became true; None: timeless rows, known since ever.
        known_after: how long after `at` a row is known.
        rename: columns that are called otherwise in the use case, ``{theirs: ours}``.
    """

    path: str
    at: str | None
    known_after: timedelta = timedelta(0)
    rename: Mapping[str, str] = field(default_factory=dict)

    def read(self, access: TableAccess) -> pd.DataFrame:
        """All rows."""
        return _read_file(access.data_dir / self.path, "read_parquet", self.rename)

    def spec(self) -> dict[str, Any]:
        """The declaration."""
        return {"kind": "parquet", "path": self.path} | _spec(self)


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """A CSV file with a header line.

    Args:
        path: relative to the data folder.
        at: as for `ParquetTable`.
        known_after: as for `ParquetTable`.
        rename: as for `ParquetTable`.
    """

    path: str
    at: str | None
    known_after: timedelta = timedelta(0)
    rename: Mapping[str, str] = field(default_factory=dict)

    def read(self, access: TableAccess) -> pd.DataFrame:
        """All rows."""
        return _read_file(access.data_dir / self.path, "read_csv", self.rename)

    def spec(self) -> dict[str, Any]:
        """The declaration."""
        return {"kind": "csv", "path": self.path} | _spec(self)


@dataclass(frozen=True, kw_only=True)
class SqlQuery:
    """The result of a query.

    Args:
        database: name of an entry of the setting EVERGREEN_DATABASES, which holds its SQLAlchemy URL.
        query: a SELECT.
        at: as for `ParquetTable`.
        known_after: as for `ParquetTable`.
        rename: as for `ParquetTable`.
    """

    database: str
    query: str
    at: str | None
    known_after: timedelta = timedelta(0)
    rename: Mapping[str, str] = field(default_factory=dict)

    def read(self, access: TableAccess) -> pd.DataFrame:
        """All rows."""
        import pandas as pd
        import sqlalchemy as sa

        if self.database not in access.databases:
            known = ", ".join(sorted(access.databases)) or "none"
            raise DataError(
                f"There is no database {self.database!r}; known: {known}. Add it to EVERGREEN_DATABASES, "
                'e.g. {"warehouse": "postgresql+psycopg://user@host/name"}.'
            )
        try:
            engine = sa.create_engine(access.databases[self.database])
            with engine.connect() as connection:
                frame = pd.read_sql_query(sa.text(self.query), connection)
            engine.dispose()
        except sa.exc.SQLAlchemyError as error:
            raise DataError(f"The query to {self.database!r} failed ({error}). Check the query and the URL.") from error
        return frame.rename(columns=dict(self.rename))

    def spec(self) -> dict[str, Any]:
        """The declaration."""
        return {"kind": "sql", "database": self.database, "query": self.query} | _spec(self)


def _read_file(path: Path, reader: str, rename: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    try:
        frame: pd.DataFrame = getattr(pd, reader)(path)
    except (OSError, ValueError) as error:
        raise DataError(f"The table {path} cannot be read ({error}). Check its path and format.") from error
    return frame.rename(columns=dict(rename))


def _spec(table: ParquetTable | CsvTable | SqlQuery) -> dict[str, Any]:
    seconds = table.known_after.total_seconds()
    return {"at": table.at, "known_after_s": seconds, "rename": dict(sorted(table.rename.items()))}
