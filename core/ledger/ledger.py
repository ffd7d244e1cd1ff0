"""Reading and appending to the ledger."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Row, func, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from core.clock import Clock, SystemClock, as_utc
from core.decision import Decision
from core.errors import LedgerError, StaleGeneration
from core.ledger.engine import open_engine
from core.ledger.schema import decisions, deployments, leases

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = threading.Lock()  # Alembic keeps what it migrates in globals
# What makes other processes wait until this one has migrated, and then find nothing left to do.
_ALONE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(4995710)"}


@dataclass(frozen=True)
class Entry:
    """One recorded decision.

    Args:
        id: rises with every entry.
        use_case: whose decision.
        kind: trigger, data_check, gate, promotion, deployment, aftermath, materialize, audit, alert, admin.
        action: what was decided.
        reason: one sentence.
        evidence: what it was decided on.
        actor: who or what decided.
        version: the model version it concerns, if any.
        as_of: the moment it was decided for (event time in a replay).
        recorded_at: the moment it was written down.
    """

    id: int
    use_case: str
    kind: str
    action: str
    reason: str
    evidence: Mapping[str, Any]
    actor: str
    version: str | None
    as_of: datetime
    recorded_at: datetime


@dataclass(frozen=True)
class Deployment:
    """One version put in front of clients; `generation` rises by one with each.

    Args:
        use_case: whose.
        generation: the how-manieth of the use case.
        version: what answers from then on.
        previous: what answered before.
        actor: who or what asked for it.
        reason: why.
        as_of: event time of what it was decided on.
        deployed_at: when it was written down, by the ledger's clock.
        evidence: the artifact's ``digest``, the ids of the ``decisions`` that allowed it, and the ``clock`` by which
            it answered; empty for those of earlier releases.
    """

    use_case: str
    generation: int
    version: str
    previous: str | None
    actor: str
    reason: str
    as_of: datetime
    deployed_at: datetime
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """Append-only tables of decisions and deployments, and the leases that keep work single-flight.

    Args:
        url: SQLAlchemy URL.
        clock: stamps what is written.

    Example:
        >>> ledger = Ledger("sqlite://")
        >>> ledger.migrate()
        >>> from datetime import UTC
        >>> ledger.record("taxi_tip", "trigger", Decision("wait", "nothing fired"), actor="monitor",
        ...               as_of=datetime(2019, 2, 2, tzinfo=UTC))
        1
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._engine = open_engine(url)
        self._url = url
        self._clock = clock or SystemClock()

    def migrate(self) -> None:
        """Create the tables or bring them up to date; safe to call from several processes.

        Raises:
            LedgerError: if the database cannot be reached or written.
        """
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        try:
            with _MIGRATING, self._engine.begin() as connection:
                connection.exec_driver_sql(_ALONE[connection.dialect.name])
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except OperationalError as error:
            raise LedgerError(
                f"The ledger at {self._engine.url.render_as_string()} cannot be opened ({error.orig}). "
                "Check EVERGREEN_LEDGER__URL, and that its folder can be written."
            ) from error

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def record(
        self, use_case: str, kind: str, decision: Decision, *, actor: str, as_of: datetime, version: str | None = None
    ) -> int:
        """Append a decision and return its id."""
        values = {
            "use_case": use_case, "kind": kind, "action": decision.action, "reason": decision.reason,
            "evidence": dict(decision.evidence), "actor": actor, "version": version,
            "as_of": as_utc(as_of), "recorded_at": self._clock.now(),
        }  # fmt: skip
        with self._engine.begin() as connection:
            key = connection.execute(insert(decisions).values(**values)).inserted_primary_key
        return int(key[0]) if key else 0

    def entries(
        self,
        use_case: str | None = None,
        *,
        kind: str | None = None,
        actions: Collection[str] = (),
        version: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Decisions, newest first; of some actions, about one version, or from before an id only, if they are given."""
        query = select(decisions).order_by(decisions.c.id.desc())
        if use_case is not None:
            query = query.where(decisions.c.use_case == use_case)
        if kind is not None:
            query = query.where(decisions.c.kind == kind)
        if actions:
            query = query.where(decisions.c.action.in_(actions))
        if version is not None:
            query = query.where(decisions.c.version == version)
        if before is not None:
            query = query.where(decisions.c.id < before)
        if limit is not None:
            query = query.limit(limit)
        with self._engine.connect() as connection:
            return [Entry(**_aware(row)) for row in connection.execute(query)]

    def newest_id(self) -> int:
        """The id of the newest decision; 0 without one."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.max(decisions.c.id))).scalar() or 0)

    def is_made(self) -> bool:
        """Whether its tables are there; `migrate` makes them."""
        return inspect(self._engine).has_table(decisions.name)

    def entry(self, entry_id: int) -> Entry | None:
        """The decision with that id."""
        with self._engine.connect() as connection:
            row = connection.execute(select(decisions).where(decisions.c.id == entry_id)).first()
        return Entry(**_aware(row)) if row else None

    def deploy(
        self,
        use_case: str,
        *,
        expected_generation: int,
        version: str,
        previous: str | None,
        actor: str,
        reason: str,
        as_of: datetime,
        evidence: Mapping[str, Any] | None = None,
    ) -> int:
        """Record that `version` answers from now on, if nobody deployed since `expected_generation` (0: never).

        Returns:
            The new generation.

        Raises:
            StaleGeneration: if somebody did.
        """
        values = {
            "use_case": use_case, "generation": expected_generation + 1, "version": version, "previous": previous,
            "actor": actor, "reason": reason, "as_of": as_utc(as_of), "deployed_at": self._clock.now(),
            "evidence": dict(evidence or {}),
        }  # fmt: skip
        newest = select(func.max(deployments.c.generation)).where(deployments.c.use_case == use_case)
        try:
            with self._engine.begin() as connection:
                found = connection.execute(newest).scalar() or 0
                if found != expected_generation:
                    raise StaleGeneration(use_case, expected_generation, found)
                connection.execute(insert(deployments).values(**values))
        except IntegrityError as error:
            raise StaleGeneration(use_case, expected_generation, expected_generation + 1) from error
        return expected_generation + 1

    def deployments(self, use_case: str) -> list[Deployment]:
        """Deployments of a use case, newest first."""
        query = select(deployments).where(deployments.c.use_case == use_case).order_by(deployments.c.generation.desc())
        with self._engine.connect() as connection:
            rows = [_aware(row) for row in connection.execute(query)]
        return [Deployment(**{k: v for k, v in row.items() if k != "id"} | {"evidence": row["evidence"] or {}})
                for row in rows]  # fmt: skip

    def live(self, use_case: str) -> Deployment | None:
        """The newest deployment, which answers clients."""
        found = self.deployments(use_case)
        return found[0] if found else None

    def acquire(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Take a lease, if it is free or has run out.

        Returns:
            A fencing token, larger than any given for this name before; None if another holds the lease.
        """
        now = self._clock.now()
        free = {"holder": holder, "expires_at": now + timedelta(seconds=ttl_s)}
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(leases)
                .where(leases.c.name == name, leases.c.expires_at <= now)
                .values(**free, token=leases.c.token + 1)
            )
            if taken.rowcount == 1:
                return int(connection.execute(select(leases.c.token).where(leases.c.name == name)).scalar_one())
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(leases).values(name=name, token=1, **free))
        except IntegrityError:
            return None
        return 1

    def renew(self, name: str, token: int, ttl_s: float) -> bool:
        """Prolong a lease; False if it was lost."""
        return self._touch(name, token, self._clock.now() + timedelta(seconds=ttl_s))

    def release(self, name: str, token: int) -> None:
        """Give a lease back; nothing happens if it was lost."""
        self._touch(name, token, self._clock.now())

    def holds(self, name: str, token: int) -> bool:
        """Whether the lease is still held under that token."""
        query = select(leases.c.token).where(
            leases.c.name == name, leases.c.token == token, leases.c.expires_at > self._clock.now()
        )
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def _touch(self, name: str, token: int, expires_at: datetime) -> bool:
        now = self._clock.now()
        with self._engine.begin() as connection:
            done = connection.execute(
                update(leases)
                .where(leases.c.name == name, leases.c.token == token, leases.c.expires_at > now)
                .values(expires_at=expires_at)
            )
        return done.rowcount == 1


def _aware(row: Row[Any]) -> dict[str, Any]:
    return {key: as_utc(value) if isinstance(value, datetime) else value for key, value in row._mapping.items()}
