"""A small HTTP server that answers what a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

Answer = Callable[[bytes, int], list[bytes]]
Serving = Callable[[Answer], "contextmanager[int]"]


@pytest.fixture
def serving() -> Serving:
    """Opens a server: ``with serving(answer) as port``.

    `answer` gets a request's body and its number on the connection, and gives the parts to send; none: hang up.
    """

    @contextmanager
    def run(answer: Answer) -> Iterator[int]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threads = [threading.Thread(target=_accept, args=(listener, answer), daemon=True)]
        threads[0].start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        threads[0].join(10)

    return run


def reply(body: bytes, status: int = 200) -> bytes:
    """An answer with a length."""
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def _accept(listener: socket.socket, answer: Answer) -> None:
    handlers = []
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            handler = threading.Thread(target=_serve, args=(connection, answer), daemon=True)
            handler.start()
            handlers.append(handler)
    for handler in handlers:
        handler.join(10)


def _serve(connection: socket.socket, answer: Answer) -> None:
    received, asked = b"", 0
    with connection, suppress(OSError):
        while True:
            head, found, rest = received.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) if found else 0
            if not found or len(rest) < length:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
                continue
            parts = answer(rest[:length], asked)
            if not parts:
                return
            for part in parts:
                connection.sendall(part)
            received, asked = rest[length:], asked + 1
