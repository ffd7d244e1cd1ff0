"""HTTP servers of tests that play somebody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import TypeVar

import pytest

Server = TypeVar("Server", bound=ThreadingHTTPServer)


@contextmanager
def answering(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Let a server answer as long as the context, asked without any proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
