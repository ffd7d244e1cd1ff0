"""Putting together what guards the gateway: keys, limits, and the calls that administer them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from core.clock import SystemClock
from core.ledger import Ledger
from core.settings import Settings
from features.streams import Keys
from serving.gateway.access import Access
from serving.gateway.access_metrics import AccessMetrics
from serving.gateway.admin import Admin, admin_routes
from serving.gateway.key_watcher import KeyWatcher
from serving.gateway.limit_exchange import LimitExchange
from serving.gateway.store import Store
from serving.keys.audit import AdminAudit
from serving.keys.store import KeyStore


class AccessControl:
    """Guards one gateway process.

    Args:
        settings: the key of the settings, and where the ledger is.
        keys: holds the API keys.
        store: holds the counts that all gateways share.
        registry: where metrics are registered.
        declared: the use cases there are.
    """

    def __init__(
        self, settings: Settings, keys: KeyStore, store: Store, registry: CollectorRegistry, declared: Collection[str]
    ) -> None:
        own = settings.gateway
        self.access = Access(setting=own.api_key.get_secret_value(), is_loopback=own.is_loopback)
        metrics = self.metrics = AccessMetrics(registry, self.access)
        self._keys = keys
        self._watcher = KeyWatcher(keys, self.access)
        self._limits = LimitExchange(self.access, store, Keys(settings.redis.namespace), failed=metrics.exchange_failed)
        self.ledger, clock = Ledger(settings.ledger_url), SystemClock()
        self.audit = AdminAudit(self.ledger, clock)
        self._admin = Admin(self.access, keys, self.audit, declared, clock)

    def routes(self) -> APIRouter:
        """The admin calls."""
        return admin_routes(self._admin)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Follow the keys and share the counts while this is entered."""
        await asyncio.to_thread(self._watcher.start)
        stop = asyncio.Event()
        exchanging = asyncio.create_task(self._limits.run(stop))
        try:
            yield
        finally:
            stop.set()
            await exchanging
            await asyncio.to_thread(self._watcher.stop)
            self._keys.close()
            self.ledger.close()
