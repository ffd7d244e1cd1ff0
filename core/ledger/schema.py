"""The ledger's tables."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_KEY = BigInteger().with_variant(Integer, "sqlite")

decisions = Table(
    "decisions",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=True),
    Column("use_case", String(63), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("action", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("version", String(32)),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Index("ix_decisions_use_case_kind", "use_case", "kind", "id"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=True),
    Column("use_case", String(63), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", String(32), nullable=False),
    Column("previous", String(32)),
    Column("actor", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("deployed_at", DateTime(timezone=True), nullable=False),
    Column("evidence", JSON),
    UniqueConstraint("use_case", "generation", name="uq_deployments_generation"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("use_cases", JSON, nullable=False),
    Column("rate_per_s", Integer),
    Column("quota_per_day", BigInteger),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("replaced_by", String(12)),
)
