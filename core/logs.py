"""Logging, configured once at an entry point: lines for people, or JSON for machines."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

use_case_var: ContextVar[str] = ContextVar("use_case", default="-")
version_var: ContextVar[str] = ContextVar("version", default="-")
run_id_var: ContextVar[str] = ContextVar("run_id", default="-")
Format = Literal["text", "json"]

_CONTEXT = {"use_case": use_case_var, "version": version_var, "run_id": run_id_var}
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(use_case)s] %(message)s"


class _Context(logging.Filter):
    """Gives each record the use case, version and run it concerns, unless it says so itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, variable in _CONTEXT.items():
            if not hasattr(record, name):
                setattr(record, name, variable.get())
        return True


class _Json(logging.Formatter):
    """One JSON object per line; what a call gave as ``extra`` stands beside the rest."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD and value != "-"}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(level: str, form: Format = "text") -> None:
    """Send records to standard error, one line each, with the use case they concern.

    Args:
        level: the least level that is written, e.g. ``INFO``.
        form: ``text``, or ``json`` with use case, version, run and whatever else a record carries as fields.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_Context())
    handler.setFormatter(_Json() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
