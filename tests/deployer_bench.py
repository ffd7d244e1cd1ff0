"""A deployer over memory implementations of everything but the ledger."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core.clock import ManualClock
from core.decision import Decision
from core.ledger import Ledger
from registry.versions import MemoryRegistry, VersionInfo
from serving.counts import NOTHING, plus
from serving.deployer import Deployer
from serving.deployment import Stations
from serving.gateway_report import Tally
from serving.model_host import MemoryModelHost
from serving.permission import Rules
from serving.routes import MemoryRouteTable
from tests.torchserve_process import make_version

NOW = datetime(2019, 3, 1, tzinfo=UTC)
AS_OF = datetime(2019, 2, 2, tzinfo=UTC)


def pass_gate(ledger: Ledger, use_case: str, version: str, digest: str, action: str = "promote") -> int:
    """Write what a retrain writes of a version that it registered."""
    verdict = Decision(action, "0.010 nats better on 2000 rows", {"digest": digest})
    return ledger.record(use_case, "gate", verdict, actor="flow retrain", as_of=AS_OF, version=version)


class Bench:
    """A deployer with everything it touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = MemoryRegistry(folder / "registry")
        self.host: Any = MemoryModelHost()
        self.routes = MemoryRouteTable()
        self.clock = ManualClock(NOW)
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}", self.clock)
        self.ledger.migrate()
        self.now_s = 0.0
        self.bad: set[str] = set()
        self.stations = Stations(self.registry, self.host, self.routes, self.ledger, folder / "store", self.clock)
        self.deployer = self.restarted()

    def restarted(self, **changed: Any) -> Deployer:
        """Another deployer process in the place of the first."""
        self.deployer = Deployer(
            replace(self.stations, **changed), threading.Event(), grace_s=5.0, monotonic=lambda: self.now_s
        )
        return self.deployer

    def restarted_with(self, rules: Rules, *, registry_poll_s: float = 0.0, **changed: Any) -> Deployer:
        """Another deployer process, with other rules."""
        self.deployer = Deployer(
            replace(self.stations, **changed), threading.Event(), grace_s=5.0, monotonic=lambda: self.now_s,
            rules=rules, registry_poll_s=registry_poll_s,
        )  # fmt: skip
        return self.deployer

    def version(self, use_case: str = "toy", bias: float = 0.0, *, passed: bool = True) -> str:
        """Register a version that has passed its gate, or has none, and return its number."""
        folder = make_version(self.folder / "made" / f"{use_case}{bias}", use_case=use_case, bias=bias)
        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        info = VersionInfo(digest=digest, as_of=AS_OF, reason="drift", fingerprint="f", log_loss=0.5)
        version = self.registry.register(use_case, folder, info)
        if passed:
            pass_gate(self.ledger, use_case, version, digest)
        return version

    def champion(self, version: str, use_case: str = "toy") -> None:
        """Move the alias."""
        self.registry.set_alias(use_case, "champion", version)

    def deployments(self) -> list[tuple[str, str | None]]:
        """(action, version) of the ledger's entries, oldest first."""
        return [(e.action, e.version) for e in reversed(self.ledger.entries("toy", kind="deployment"))]

    def alias(self, name: str, version: str | None, percent: str | None = None) -> None:
        """Move an alias, and say how much."""
        tags = {f"evergreen.{name}_percent": percent} if percent is not None else {}
        self.registry.set_alias("toy", name, version, tags)

    def asked(self, version: str, n: int = 300, errors: int = 0, seconds: float = 0.004) -> None:
        """Let the gateway have asked a version."""
        fresh = Tally()
        for i in range(n):
            fresh.failed() if i < errors else fresh.answered(seconds)
        key = f"toy/{version}"
        self.routes.tallies[key] = plus(self.routes.tallies.get(key, NOTHING), fresh)

    def pass_time(self, **span: float) -> None:
        """Let both clocks go on."""
        self.clock.advance(timedelta(**span))
        self.now_s += timedelta(**span).total_seconds()
