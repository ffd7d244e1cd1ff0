"""Logging, configured once at an entry point."""

from __future__ import annotations

import logging
from contextvars import ContextVar

use_case_var: ContextVar[str] = ContextVar("use_case", default="-")


class _Context(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.use_case = use_case_var.get()
        return True


def configure_logging(level: str) -> None:
    """Send records to standard error, one line each, with the use case they concern."""
    handler = logging.StreamHandler()
    handler.addFilter(_Context())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(use_case)s] %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
