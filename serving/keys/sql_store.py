"""Keys in the ledger's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError

from core.clock import as_utc
from core.errors import DependencyDown, UnknownKey
from core.ledger.engine import open_engine
from core.ledger.schema import api_keys
from serving.keys.key import Key
from serving.keys.store import earlier, require_replaceable


class SqlKeyStore:
    """The table ``api_keys`` beside the ledger's own.

    Reading needs no migrated database: where the table does not exist yet there are no keys. Writing does.

    Args:
        url: SQLAlchemy URL of the ledger.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)

    def read(self) -> list[Key]:
        """All keys, oldest first."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        with _answering():
            try:
                with self._engine.connect() as connection:
                    return [_key(row) for row in connection.execute(query)]
            except (OperationalError, ProgrammingError):  # how databases say that a table is missing, among others
                if inspect(self._engine).has_table(api_keys.name):
                    raise
                return []

    def add(self, key: Key) -> None:
        """Keep one more."""
        with _answering(), self._engine.begin() as connection:
            connection.execute(insert(api_keys).values(**_values(key)))

    def succeed(self, key_id: str, successor: Key, ends_at: datetime) -> Key:
        """Keep the successor and bound the life of the old key, in one transaction."""
        with _answering(), self._engine.begin() as connection:
            # Written first, so that of two who rotate at once the second waits, and then sees the first one's work.
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.replaced_by.is_(None))
                .values(name=api_keys.c.name)
            )
            old = _find(connection, key_id)
            require_replaceable(old, successor.created_at)
            changed = replace(old, replaced_by=successor.id, expires_at=earlier(old.expires_at, ends_at))
            connection.execute(insert(api_keys).values(**_values(successor)))
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id)
                .values(replaced_by=changed.replaced_by, expires_at=changed.expires_at)
            )
        return changed

    def revoke(self, key_id: str, at: datetime) -> Key:
        """End a key."""
        with _answering(), self._engine.begin() as connection:
            connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=as_utc(at))
            )
            return _find(connection, key_id)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def _find(connection: Connection, key_id: str) -> Key:
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    if row is None:
        raise UnknownKey(key_id)
    return _key(row)


def _values(key: Key) -> dict[str, Any]:
    values = {column.name: getattr(key, column.name) for column in api_keys.columns}
    return values | {"scopes": sorted(key.scopes), "use_cases": sorted(key.use_cases)}


def _key(row: Row[Any]) -> Key:
    values: dict[str, Any] = {name: as_utc(v) if isinstance(v, datetime) else v for name, v in row._mapping.items()}
    values |= {"scopes": frozenset(values["scopes"]), "use_cases": frozenset(values["use_cases"])}
    return Key(**values)


@contextmanager
def _answering() -> Iterator[None]:
    """Turn the database's ways of not answering into DependencyDown."""
    try:
        yield
    except SQLAlchemyError as error:
        # only the kind: clients read this, and the database's own words name hosts and users
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise DependencyDown("The ledger's database", type(cause).__name__) from error
