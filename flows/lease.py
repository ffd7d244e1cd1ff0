"""Holding a lease while work goes on."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from core.errors import LedgerError
from core.ledger import Ledger

logger = logging.getLogger(__name__)

# A killed holder blocks others for this long; a holder whose threads are starved may miss three renewals.
_TTL_S = 60.0
_RENEW_S = 15.0


@dataclass(frozen=True)
class Lease:
    """A lease that is held, renewed in the background.

    Args:
        ledger: where it is recorded.
        name: what it is for.
        token: rises with each holder.
    """

    ledger: Ledger
    name: str
    token: int

    def require(self) -> None:
        """Make sure that it is still held, right before something that only its holder may do.

        Raises:
            LedgerError: if it was lost, because renewals stopped for longer than it lasts.
        """
        if not self.ledger.holds(self.name, self.token):
            raise LedgerError(
                f"The lease {self.name} was lost to another holder (token {self.token}). Nothing was changed; "
                "that holder goes on."
            )


@contextmanager
def hold(ledger: Ledger, name: str) -> Iterator[Lease | None]:
    """Take a lease and keep it until the block ends; None if another holds it."""
    token = ledger.acquire(name, f"{socket.gethostname()}/{os.getpid()}", _TTL_S)
    if token is None:
        yield None
        return
    done = threading.Event()
    beat = threading.Thread(target=_renew, args=(ledger, name, token, done), name=f"lease {name}", daemon=True)
    beat.start()
    try:
        yield Lease(ledger, name, token)
    finally:
        done.set()
        beat.join()
        ledger.release(name, token)


def _renew(ledger: Ledger, name: str, token: int, done: threading.Event) -> None:
    while not done.wait(_RENEW_S):
        try:
            if not ledger.renew(name, token, _TTL_S):
                return
        except SQLAlchemyError as error:  # the next beat may get through; the lease lasts several
            logger.warning("lease %s could not be renewed: %s", name, error)
