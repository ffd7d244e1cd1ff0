"""The load generator, closed loop: the same for every server, and as little work per call as Python allows.

Requests are bytes made beforehand; sockets are read when epoll says so; of an answer only its status and length are
looked at. A part of the answers is kept whole, to be compared with what they should be.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.http_bytes import SILENCE_S, Kept, connected, is_whole

Floats = npt.NDArray[np.float64]
READ_BYTES = 65_536
KEEP_EVERY = 97  # a prime, so that in turn every one of the different requests has its answer kept


@dataclass(frozen=True)
class Run:
    """What a closed loop saw after its warm-up.

    Args:
        seconds: how long it took.
        latency_s: of every answer with status 200, in order of arrival.
        statuses: answers by status; 0: the server hung up.
        kept: some of the answers with status 200, whole.
        own_cpu: CPU seconds of this process per second.
    """

    seconds: float
    latency_s: Floats
    statuses: dict[int, int]
    kept: list[Kept]
    own_cpu: float

    @property
    def rate(self) -> float:
        """Calls answered with 200 per second."""
        return len(self.latency_s) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Of the latencies, in milliseconds."""
        return float(np.percentile(self.latency_s, percent)) * 1e3


def closed_loop(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float, warm_s: float = 0.5, first: int = 0
) -> Run:
    """Keep every connection busy with one call at a time.

    Args:
        port: of the server, on loopback.
        requests: whole HTTP requests, sent in turn.
        connections: how many, all kept alive.
        seconds: how long to count.
        warm_s: seconds before that.
        first: index of the first request sent.

    Raises:
        TimeoutError: if no answer comes for 15 s.
    """
    loop = _Loop(port, requests, connections, first)
    with quiet():
        try:
            loop.run(warm_s)
            loop.forget()
            cpu, began = time.process_time(), time.perf_counter()
            loop.run(seconds)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
        finally:
            loop.close()
    return Run(took, np.frombuffer(loop.latency_s), dict(loop.statuses), loop.kept, cpu / took)


class _Loop:
    """The connections of a closed loop, and what they have seen."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int, first: int) -> None:
        self._port, self._requests, self._next = port, requests, first
        self._poll = select.epoll()
        self._by_fd: dict[int, socket.socket] = {}
        self._asked: dict[int, int] = {}
        self._sent: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        self.forget()
        for _ in range(connections):
            self._connect()

    def forget(self) -> None:
        """Begin to count anew."""
        self.latency_s = array("d")
        self.statuses: Counter[int] = Counter()
        self.kept: list[Kept] = []

    def close(self) -> None:
        """Close all connections."""
        for each in self._by_fd.values():
            each.close()
        self._poll.close()

    def run(self, seconds: float) -> None:
        """Send and receive for a while."""
        # what is needed for every answer is looked up once
        wait, clock, by_fd, asked, sent = self._poll.poll, time.perf_counter, self._by_fd, self._asked, self._sent
        partial, requests, n, latencies = self._partial, self._requests, len(self._requests), self.latency_s
        keep, took, statuses = self.kept.append, latencies.append, self.statuses
        now = clock()
        until = now + seconds
        while now < until:
            ready = wait(SILENCE_S)
            if not ready:
                raise TimeoutError(f"no answer on port {self._port} for {SILENCE_S:g} s")
            for fd, _ in ready:
                data = by_fd[fd].recv(READ_BYTES)
                now = clock()
                if not data:
                    statuses[0] += 1
                    self._reconnect(fd)
                    continue
                if partial and fd in partial:
                    data = partial.pop(fd) + data
                if not is_whole(data):
                    partial[fd] = data
                    continue
                status = int(data[9:12])
                statuses[status] += 1
                if status == 200:
                    took(now - sent[fd])
                    if len(latencies) % KEEP_EVERY == 1:  # the first too
                        keep(Kept(asked[fd], data))
                asked[fd] = following = self._next % n
                self._next += 1
                sent[fd] = clock()
                by_fd[fd].sendall(requests[following])

    def _connect(self) -> None:
        connection = connected(self._port)
        fd = connection.fileno()
        self._by_fd[fd] = connection
        self._poll.register(fd, select.EPOLLIN)
        self._asked[fd] = self._next % len(self._requests)
        self._next += 1
        self._sent[fd] = time.perf_counter()
        connection.sendall(self._requests[self._asked[fd]])

    def _reconnect(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._by_fd.pop(fd).close()
        self._partial.pop(fd, None)
        self._connect()


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
