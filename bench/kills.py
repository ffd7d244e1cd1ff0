"""Killing a stream worker with SIGKILL again and again, against a run in which nobody is killed."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench.measure import Result
from bench.redis_server import redis_server
from features.offline.log import OfflineLog
from tests.soak import PER_ENTRY, Soak

_POLL_S = 0.5


def run(events: int = 1_000_000, kills: int = 50) -> list[Result]:
    """Measure once.

    Args:
        events: how many are sent, duplicates among them.
        kills: how often the worker is killed and replaced.
    """
    what = f"{events:,} events, {kills} SIGKILLs"
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        soaks = {name: Soak(url, False, "soak", Path(folder) / name, 1, events) for name in ("killed", "clean")}
        digests, seconds = {}, {}
        with soaks["killed"].client() as client:
            for name, count in (("killed", kills), ("clean", 0)):
                began = time.perf_counter()
                with _shown(soaks[name], f"{events:,} events, {count} SIGKILLs"):
                    digests[name] = soaks[name].run(client, count)
                seconds[name] = time.perf_counter() - began
                soaks[name].clear(client)
        found = Counter(OfflineLog(soaks["killed"].settings.offline_dir).events("sales")["id"])
        expected = Counter(soaks["killed"].expected_ids())
    wrong = (found - expected).total() + (expected - found).total()
    return results(what, digests["killed"] == digests["clean"], wrong, seconds)


def results(what: str, is_equal: bool, wrong: int, seconds: dict[str, float]) -> list[Result]:
    """Whether both came to the same, and how long they took with the sending of the events."""
    clean = Result(f"{what}: the clean run", seconds["clean"], "s", "lower", n=1)
    killed = Result(f"{what}: the run with kills", seconds["killed"], "s", "lower", n=1)
    return [
        Result(
            f"{what}: digest of the online features equal to the clean run's", float(is_equal), "", "higher", 1, n=1
        ),
        Result(f"{what}: lost or doubled in the offline log", float(wrong), "events", "lower", 0, n=1),
        clean,
        replace(killed, against=clean.name, ratio=killed.value / clean.value),
    ]


@contextmanager
def _shown(soak: Soak, what: str) -> Iterator[None]:
    """Show how far the workers are."""
    over = threading.Event()
    with Progress(console=Console(stderr=True), transient=True) as progress, soak.client() as client:
        task = progress.add_task(what, total=-(-soak.events // PER_ENTRY))

        def watch() -> None:
            while not over.wait(_POLL_S):
                progress.update(task, completed=soak.applied(client))

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()
