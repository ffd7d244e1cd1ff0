"""Tables that batch views read: Parquet, CSV, or a query to a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy as sa

LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TableAccess:
    """What a table needs to be read.

    Args:
        data_dir: folder that paths are relative to.
        databases: SQLAlchemy URLs by name.
    """

    data_dir: Path
    databases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is wanted of a table. A table may give more, never less.

    Args:
        text: columns to be read as text even where they look like numbers.
        since: rows whose moment is at or before it are not needed.
        until: nor are those after it; None: no bound.
    """

    text: tuple[str, ...] = ()
    since: datetime = LONG_AGO
    until: datetime | None = None


EVERYTHING = Wanted()


class Table(Protocol):
    """Rows with a moment each; must give the same rows for the same arguments as long as nothing is added."""

    @property
    def at(self) -> str | None:
        """The column, as called in the use case, that says when a row became true; None: rows are timeless.

        Naive times are read as UTC.
        """
        ...

    @property
    def known_after(self) -> timedelta:
        """How long after it became true a row is known; by then it must be in the table."""
        ...

    def read(self, access: TableAccess, wanted: Wanted = EVERYTHING) -> pd.DataFrame:
        """The rows.

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
        at: column, as called in the use case, that says when a row became true; None: timeless rows, known since ever.
        known_after: how long after `at` a row is known; by then it must be in the table.
        rename: columns that are called otherwise in the use case, ``{theirs: ours}``.

    Example:
        >>> ParquetTable(path="weather", at="hour").spec()["kind"]
        'parquet'
    """

    path: str
    at: str | None
    known_after: timedelta = timedelta(0)
    rename: Mapping[str, str] = field(default_factory=dict)

    def read(self, access: TableAccess, wanted: Wanted = EVERYTHING) -> pd.DataFrame:
        """The rows; those outside the wanted time are left out while reading, if the column is a time."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        path = access.data_dir / self.path
        try:
            dataset = ds.dataset(str(path), format="parquet")
            condition = _between(dataset.schema, _theirs(self.rename, self.at), wanted)
            frame: pd.DataFrame = dataset.to_table(filter=condition).to_pandas(integer_object_nulls=True)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"The table {path} cannot be read ({error}). Check its path and format.") from error
        return _renamed(frame, self.rename, str(path))

    def spec(self) -> dict[str, Any]:
        """The declaration."""
        return {"kind": "parquet", "path": self.path} | _spec(self)


@dataclass(frozen=True, kw_only=True)
class CsvTable:
    """A CSV file in UTF-8 with a header line. Text is null where it is empty, a number also where it is NA.

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

    def read(self, access: TableAccess, wanted: Wanted = EVERYTHING) -> pd.DataFrame:
        """The rows, whatever their time."""
        import pandas as pd

        path = access.data_dir / self.path
        text = {_theirs(self.rename, name) for name in wanted.text}
        try:
            names = pd.read_csv(path, nrows=0).columns
            converters = {name: _text_or_null for name in names if name in text}
            frame = pd.read_csv(path, converters=converters, low_memory=False)
        except (OSError, ValueError) as error:
            raise DataError(f"The table {path} cannot be read ({error}). Check its path and format.") from error
        return _renamed(frame, self.rename, str(path))

    def spec(self) -> dict[str, Any]:
        """The declaration."""
        return {"kind": "csv", "path": self.path} | _spec(self)


@dataclass(frozen=True, kw_only=True)
class SqlQuery:
    """The result of a query.

    Args:
        database: name of an entry of the setting EVERGREEN_DATABASES, which holds its SQLAlchemy URL.
        query: a SELECT. It may name ``:since`` and ``:until``, so that a refresh reads only what is new: rows with
            ``at`` in (since, until] are needed. PostgreSQL is asked with UTC as its session's time zone.
        at: as for `ParquetTable`.
        known_after: as for `ParquetTable`.
        rename: as for `ParquetTable`.
    """

    database: str
    query: str
    at: str | None
    known_after: timedelta = timedelta(0)
    rename: Mapping[str, str] = field(default_factory=dict)

    def read(self, access: TableAccess, wanted: Wanted = EVERYTHING) -> pd.DataFrame:
        """The rows."""
        import sqlalchemy as sa

        if self.database not in access.databases:
            known = ", ".join(sorted(access.databases)) or "none"
            raise DataError(
                f"There is no database {self.database!r}; known: {known}. Add it to EVERGREEN_DATABASES, "
                'e.g. {"warehouse": "postgresql+psycopg://user@host/name"}.'
            )
        try:
            engine = sa.create_engine(access.databases[self.database], poolclass=sa.NullPool)
            with engine.connect() as connection:
                frame = self._ask(connection, wanted)
        except (sa.exc.SQLAlchemyError, ImportError) as error:  # the latter: the driver is not installed
            raise DataError(f"The query to {self.database!r} failed ({error}). Check the query and the URL.") from error
        return _renamed(frame, self.rename, f"{self.database!r}")

    def _ask(self, connection: sa.Connection, wanted: Wanted) -> pd.DataFrame:
        import pandas as pd
        import sqlalchemy as sa

        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TIME ZONE 'UTC'"))
        query = sa.text(self.query)
        bounds = {"since": wanted.since, "until": wanted.until or datetime(9999, 1, 1, tzinfo=UTC)}
        named = {name: value for name, value in bounds.items() if name in query.compile().params}
        result = connection.execute(query, named)
        return pd.DataFrame.from_records([tuple(row) for row in result], columns=list(result.keys()))

    def spec(self) -> dict[str, Any]:
        """The declaration."""
        return {"kind": "sql", "database": self.database, "query": self.query} | _spec(self)


def _between(schema: Any, name: str | None, wanted: Wanted) -> Any:
    """A filter on the time column; None if it is no timestamp, so that nothing can be left out while reading."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    if name is None or name not in schema.names or not pa.types.is_timestamp(schema.field(name).type):
        return None
    zone = schema.field(name).type.tz

    def scalar(moment: datetime) -> Any:
        utc = moment.astimezone(UTC)
        return pa.scalar(utc if zone else utc.replace(tzinfo=None), pa.timestamp("us", zone))

    column = ds.field(name)
    # rows without a moment are kept, so that whoever checks the rows finds them
    condition = (column > scalar(wanted.since)) | column.is_null()
    return condition if wanted.until is None else condition & ((column <= scalar(wanted.until)) | column.is_null())


def _theirs(rename: Mapping[str, str], ours: str | None) -> str | None:
    return next((theirs for theirs, name in rename.items() if name == ours), ours)


def _renamed(frame: pd.DataFrame, rename: Mapping[str, str], where: str) -> pd.DataFrame:
    missing = [name for name in rename if name not in frame.columns]
    if missing:
        raise DataError(
            f"The table {where} has no column {missing[0]!r} to rename. It has: {', '.join(map(str, frame.columns))}."
        )
    return frame.rename(columns=dict(rename))


def _text_or_null(cell: str) -> str | None:
    return cell or None


def _spec(table: ParquetTable | CsvTable | SqlQuery) -> dict[str, Any]:
    seconds = table.known_after.total_seconds()
    return {"at": table.at, "known_after_s": seconds, "rename": dict(sorted(table.rename.items()))}
