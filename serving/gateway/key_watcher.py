"""Following the table of keys."""

from __future__ import annotations

import logging
import threading

from core.errors import DependencyDown
from serving.gateway.access import Access
from serving.keys.store import KeyStore

logger = logging.getLogger(__name__)
EVERY_S = 0.5


class KeyWatcher:
    """Reads the keys twice a second in a thread, so that a revocation counts within a second.

    While the database is away, the keys last read go on to count.

    Args:
        store: where keys are kept.
        access: what goes by them.
    """

    def __init__(self, store: KeyStore, access: Access) -> None:
        self._store = store
        self._access = access
        self._stop = threading.Event()
        self._looked = threading.Event()
        self._is_away = False
        # a daemon: a database that hangs must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self, wait_s: float = 5.0) -> None:
        """Begin to read, until `stop`; returns when they were read, or could not be within `wait_s`."""
        self._thread.start()
        self._looked.wait(wait_s)

    def stop(self) -> None:
        """End the thread, unless the database holds it."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def read(self) -> None:
        """Read once; a database that is away is logged when that begins."""
        try:
            self._access.adopt(self._store.read())
        except DependencyDown as error:
            if not self._is_away:
                logger.warning("The API keys known so far go on to count: %s", error, exc_info=error)
            self._is_away = True
        else:
            self._is_away = False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.read()
            except Exception:  # the thread's entry point: it must outlive whatever the database's driver raises
                logger.exception("The API keys could not be read")
            self._looked.set()
            self._stop.wait(EVERY_S)
