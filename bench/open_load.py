"""The load generator, open loop: calls are due by a schedule, whether those before were answered or not.

Latency counts from the moment a call is due, so that what a server cannot take shows. Epoll wakes at whole
milliseconds, so a call may be sent up to one millisecond late, which counts as latency too.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.http_bytes import Kept, connected, is_whole
from bench.load import KEEP_EVERY, READ_BYTES, Floats, quiet

UNANSWERED = -1
_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Phase:
    """A stretch of the schedule.

    Args:
        rate: calls per second.
        seconds: how long.
    """

    rate: float
    seconds: float


@dataclass(frozen=True)
class OpenRun:
    """What an open loop saw, call by call.

    Args:
        due_s: when each call was due, since the beginning.
        done_s: when its answer was there, since the beginning; infinite if there was none.
        status: of its answer; 0: the server hung up; -1: there was none.
        kept: some of the answers with status 200, whole.
        own_cpu: CPU seconds of this process per second.
    """

    due_s: Floats
    done_s: Floats
    status: npt.NDArray[np.int64]
    kept: list[Kept]
    own_cpu: float

    @property
    def latency_s(self) -> Floats:
        """Of each call, from when it was due."""
        return self.done_s - self.due_s

    def answered(self, since_s: float, until_s: float) -> float:
        """Calls answered with 200 per second, in a stretch of time."""
        return float(((self.status == 200) & (self.done_s >= since_s) & (self.done_s < until_s)).sum()) / (
            until_s - since_s
        )

    def due_within(self, since_s: float, until_s: float) -> npt.NDArray[np.bool_]:
        """Which calls were due in a stretch of time."""
        return (self.due_s >= since_s) & (self.due_s < until_s)


def schedule(phases: Sequence[Phase], seed: int = 0) -> Floats:
    """When calls are due, at random as independent clients send them (a Poisson process)."""
    rng, found, began = np.random.default_rng(seed), [], 0.0
    for phase in phases:
        n = rng.poisson(phase.rate * phase.seconds)
        found.append(began + np.sort(rng.random(n)) * phase.seconds)
        began += phase.seconds
    return np.concatenate(found)


def open_loop(port: int, requests: Sequence[bytes], due_s: Floats, *, connections: int = 512) -> OpenRun:
    """Send each call when it is due.

    Args:
        port: of the server, on loopback.
        requests: whole HTTP requests, sent in turn.
        due_s: when each call is due, in order, from now on.
        connections: most calls that are under way at once; others wait here, which counts as latency.
    """
    loop = _Loop(port, requests, due_s, connections)
    with quiet():
        try:
            cpu, began = time.process_time(), time.perf_counter()
            loop.run()
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
        finally:
            loop.close()
    return OpenRun(due_s, np.array(loop.done_s), np.array(loop.status), loop.kept, cpu / took)


class _Loop:
    """The connections of an open loop, and what became of every call."""

    def __init__(self, port: int, requests: Sequence[bytes], due_s: Floats, connections: int) -> None:
        self._port, self._requests, self._due_s, self._most = port, requests, due_s.tolist(), connections
        self._poll = select.epoll()
        self._by_fd: dict[int, socket.socket] = {}
        self._call: dict[int, int] = {}
        self._partial: dict[int, bytes] = {}
        self._free: list[int] = []
        self._waiting: deque[int] = deque()
        self._began = 0.0
        self.done_s = [float("inf")] * len(due_s)
        self.status = [UNANSWERED] * len(due_s)
        self.kept: list[Kept] = []

    def close(self) -> None:
        """Close all connections."""
        for each in self._by_fd.values():
            each.close()
        self._poll.close()

    def run(self) -> None:
        """Send everything, and wait for the answers."""
        due, n, following, wait, clock = self._due_s, len(self._due_s), 0, self._poll.poll, time.perf_counter
        began = self._began = clock()
        last = (due[-1] if n else 0.0) + _PATIENCE_S
        while following < n or self._call or self._waiting:
            now = clock() - began
            if now > last:
                return
            while following < n and due[following] <= now:
                if not self._free and len(self._by_fd) < self._most:
                    self._connect()  # not before: servers hang up on those who connect and ask nothing
                if self._free:
                    self._send(self._free.pop(), following)
                else:
                    self._waiting.append(following)
                following += 1
            pause = due[following] - now if following < n else last - now
            for fd, _ in wait(max(pause, 0.0)):
                self._receive(fd)

    def _send(self, fd: int, call: int) -> None:
        self._call[fd] = call
        try:
            self._by_fd[fd].sendall(self._requests[call % len(self._requests)])
        except OSError:  # the server hung up while nobody asked
            self._hung_up(fd)

    def _receive(self, fd: int) -> None:
        if fd not in self._by_fd:
            return
        try:
            data = self._by_fd[fd].recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._hung_up(fd)
            return
        if fd in self._partial:
            data = self._partial.pop(fd) + data
        if not is_whole(data):
            self._partial[fd] = data
            return
        call = self._call.pop(fd)
        self._note(call, int(data[9:12]))
        if self.status[call] == 200 and call % KEEP_EVERY == 0:
            self.kept.append(Kept(call % len(self._requests), data))
        self._next(fd)

    def _hung_up(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._by_fd.pop(fd).close()
        self._partial.pop(fd, None)
        call = self._call.pop(fd, None)
        if call is None:
            self._free.remove(fd)
        else:
            self._note(call, 0)
        if self._waiting:
            self._connect()
            self._send(self._free.pop(), self._waiting.popleft())

    def _note(self, call: int, status: int) -> None:
        self.status[call], self.done_s[call] = status, time.perf_counter() - self._began

    def _next(self, fd: int) -> None:
        if self._waiting:
            self._send(fd, self._waiting.popleft())
        else:
            self._free.append(fd)

    def _connect(self) -> None:
        connection = connected(self._port)
        self._by_fd[connection.fileno()] = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)
        self._free.append(connection.fileno())
