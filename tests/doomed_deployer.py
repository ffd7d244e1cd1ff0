"""A deployer as a process of its own that kills itself at the write it is told: ``python -m tests.doomed_deployer``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from core.settings import Settings
from serving import deployer
from stack.environment import child_environment, single_threaded
from tests.doomed import LOOKS, Fate, doomed

_ROOT = Path(__file__).parents[1]
_SEALED = "sealed"


class DoomedDeployer:
    """Starts the process and talks to it. It is an ordinary deployer until its fate is sealed.

    Args:
        settings: of the stack it belongs to.
        log: where it writes what it does, and what a deployer logs.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self._log = log
        environment = {**child_environment(settings), **single_threaded()}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.doomed_deployer"],
                cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip

    def looks(self) -> int:
        """How many rounds it has begun."""
        return self._told().count(LOOKS)

    def writes(self) -> list[str]:
        """What it wrote, or was about to write, since it began or, if it is, since its fate was sealed."""
        told = self._told()
        since = told.index(_SEALED) + 1 if _SEALED in told else 0
        return [each for each in told[since:] if each != LOOKS]

    def seal(self, n: int, *, is_before: bool) -> None:
        """Let it die at its n-th write from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{n} {'before' if is_before else 'after'}\n")
        self._process.stdin.flush()

    def is_sealed(self) -> bool:
        """Whether it has taken note of that."""
        return _SEALED in self._told()

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def end(self) -> bool:
        """Tell it to stop if it lives, and wait until it is gone; True if it had killed itself."""
        self._process.terminate()
        code = self._process.wait(timeout=60)
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert code in (0, -signal.SIGKILL), f"the deployer ended with {code}: {self._log.read_text()[-2000:]}"
        return code != 0

    def _told(self) -> list[str]:
        lines = self._log.read_text().splitlines()
        return [line.removeprefix("> ") for line in lines if line.startswith("> ")]


def _tell(what: str) -> None:
    os.write(1, f"> {what}\n".encode())  # at once and whole, also if the process ends with the next instruction


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _listen(fate: Fate) -> None:
    while line := os.read(0, 64).decode():  # not sys.stdin, whose lock the end of the interpreter would wait for
        n, when = line.split()
        fate.seal(int(n), is_before=when == "before")
        _tell(_SEALED)


def main() -> None:
    """Run the deployer as ``python -m serving.deployer`` does, at stations where its fate is met."""
    fate, build = Fate(_die, _tell), deployer.build_stations
    deployer.build_stations = lambda settings: doomed(build(settings), fate)
    threading.Thread(target=_listen, args=(fate,), daemon=True).start()
    deployer.main()


if __name__ == "__main__":
    main()
