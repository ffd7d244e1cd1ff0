"""Contenders for the same work, each in a process of its own, run by turns so that noise falls on all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.peers import ROOT
from core.settings import inherited_environment


@dataclass(frozen=True)
class Entry:
    """A contender, before it starts.

    Args:
        name: as shown.
        argv: interpreter, module and arguments of a process that calls `bench.contender.serve`.
        threads: how many threads NumPy's libraries, Arrow and Polars may use; 0 leaves it to them.
    """

    name: str
    argv: tuple[str, ...]
    threads: int = 0

    @classmethod
    def module(cls, name: str, python: Path | str, module: str, *arguments: object, threads: int = 0) -> Entry:
        """An entry that runs ``python -m module arguments``."""
        return cls(name, (str(python), "-m", module, *map(str, arguments)), threads)


@dataclass
class Score:
    """What a contender did.

    Args:
        seconds: of each counted run.
        before: bytes resident before the first run, when everything is imported and prepared.
        peak: the most bytes resident during any run.
    """

    seconds: list[float] = field(default_factory=list)
    before: int = 0
    peak: int = 0

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def added(self) -> int:
        """Bytes at the peak on top of what the process had when it began."""
        return self.peak - self.before


def contest(entries: Iterable[Entry], n: int = 5, results: Path | None = None) -> dict[str, Score]:
    """Run every contender once uncounted, then `n` times by turns.

    Args:
        entries: the contenders.
        n: counted runs of each.
        results: a folder for each one's result, ``<name>.npy``; None keeps none.

    Raises:
        RuntimeError: if a contender fails; it has said why on standard error.
    """
    with ExitStack() as stack, Console(stderr=True).status("", refresh_per_second=2) as status:
        running = [(entry, Score(), stack.enter_context(_running(entry))) for entry in entries]
        for turn in range(n + 1):
            for entry, score, ask in running:
                status.update(f"{entry.name}, run {turn} of {n}")
                told = ask("run\n")
                score.peak = max(score.peak, told["peak"])
                if turn:
                    score.seconds.append(told["seconds"])
                else:
                    score.before = told["before"]
        for entry, _, ask in running if results else ():
            ask(f"save {results}/{entry.name}.npy\n")
    return {entry.name: score for entry, score, _ in running}


@contextmanager
def _running(entry: Entry) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A contender's process, from start to end: sends it a line, gives its answer."""
    environment = _environment(entry.threads)
    pipe = subprocess.PIPE
    with subprocess.Popen(entry.argv, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        to, from_ = child.stdin, child.stdout

        def ask(line: str) -> dict[str, Any]:
            to.write(line)
            to.flush()
            answer = from_.readline()
            if not answer:
                raise RuntimeError(f"{entry.name} ended before it answered: {' '.join(entry.argv)}")
            told: dict[str, Any] = json.loads(answer)
            return told

        ask("")
        yield ask


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
    # Feast reports its use over the network unless it is told not to
    return (
        inherited_environment() | {"FEAST_USAGE": "False"} | ({name: str(threads) for name in names} if threads else {})
    )
