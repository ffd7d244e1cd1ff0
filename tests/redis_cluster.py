"""A Redis Cluster of three real nodes, without replicas, that keeps nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.redis_process import ONCE
from tests.waiting import until

_SLOTS = 16_384
_BUS = 10_000
"""A node talks to the others on its port plus this many."""


@contextmanager
def running_cluster(server: str, ports: list[int], folder: Path) -> Iterator[str]:
    """Start a node on each port, share the slots among them, and yield the URL of one."""
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(_node(server, port, folder / str(port)))
        nodes = [stack.enter_context(redis.Redis(host="127.0.0.1", port=port, retry=ONCE)) for port in ports]
        for i, node in enumerate(nodes):
            _until(lambda node=node: node.ping(), "a node does not answer")  # type: ignore[misc]
            first, last = i * _SLOTS // len(nodes), (i + 1) * _SLOTS // len(nodes)
            node.execute_command("CLUSTER ADDSLOTS", *range(first, last))
            node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
        for node in nodes:
            _until(lambda node=node: _is_whole(node, len(ports)), "the nodes do not find each other")  # type: ignore[misc]
        yield f"redis://127.0.0.1:{ports[0]}/0"


def fits_cluster(port: int) -> bool:
    """Whether a node's second port would be one, too."""
    return port + _BUS <= 65_535


@contextmanager
def _node(server: str, port: int, folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--appendonly", "no"]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _is_whole(node: redis.Redis, size: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    text = info.decode() if isinstance(info, bytes) else "\n".join(f"{k}:{v}" for k, v in info.items())
    return "cluster_state:ok" in text and f"cluster_known_nodes:{size}" in text


def _until(holds: Callable[[], object], what: str) -> None:
    def does_hold() -> bool:
        try:
            return bool(holds())
        except redis.RedisError:
            return False

    until(does_hold, what, within_s=30)
