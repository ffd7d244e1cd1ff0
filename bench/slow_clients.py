"""Slow clients: many connections that never get done sending. A process of its own.

``python -m bench.slow_clients <port> <connections> <path>``: says ``ready`` once all are open; ends with its input.
A third say nothing, a third send a header byte by byte, a third a body byte by byte. Whom the server cuts off comes
back at once.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from contextlib import suppress

from bench.http_bytes import HOST, connected

_EVERY_S = 1.0
_SLICES = 10


class SlowClients:
    """The connections.

    Args:
        port: of the server.
        connections: how many.
        path: of the call.
    """

    def __init__(self, port: int, connections: int, path: str) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        self._begin = (b"", head.encode(), f"{head}Content-Length: 100000\r\n\r\n".encode())
        self._more = (b"", b"X", b" ")
        self._port, self._poll = port, select.epoll()
        self._by_fd: dict[int, tuple[socket.socket, int]] = {}
        self.cut = 0
        for i in range(connections):
            self._open(i % 3)

    def step(self, part: int) -> None:
        """Send one more byte on one of ten parts of the connections, and open anew those that were cut off."""
        for fd, _ in self._poll.poll(0):
            self._drain(fd)
        for fd in [fd for fd in self._by_fd if fd % _SLICES == part]:
            connection, kind = self._by_fd[fd]
            with suppress(OSError):  # it is about to be found cut off
                connection.send(self._more[kind])

    def close(self) -> None:
        """Close all connections."""
        for connection, _ in self._by_fd.values():
            connection.close()
        self._poll.close()

    def _open(self, kind: int) -> None:
        connection = connected(self._port)
        with suppress(OSError):
            connection.sendall(self._begin[kind])
        connection.setblocking(False)
        self._by_fd[connection.fileno()] = connection, kind
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def _drain(self, fd: int) -> None:
        connection, kind = self._by_fd[fd]
        with suppress(BlockingIOError):
            try:
                gone = not connection.recv(4096)
            except ConnectionError:
                gone = True
            if gone:
                self._poll.unregister(fd)
                del self._by_fd[fd]
                connection.close()
                self.cut += 1
                self._open(kind)


def _main() -> int:
    clients = SlowClients(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    part, following = 0, time.monotonic()
    while not ended.is_set():
        clients.step(part)
        part, following = (part + 1) % _SLICES, following + _EVERY_S / _SLICES
        ended.wait(max(following - time.monotonic(), 0.0))
    sys.stdout.write(f"{clients.cut}\n")
    clients.close()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
