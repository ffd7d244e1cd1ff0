"""The environments of the peers: made when missing or their pins have changed, never mixed with the product's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".evergreen" / "bench"
PINS = ROOT / "bench" / "peers.txt"


def peer_python(name: str = "") -> Path:
    """The interpreter that has the peers; installs them first where needed, and shows that it does.

    Args:
        name: of an environment: its pins are ``bench/peers-NAME.txt``. Empty: those of the feature benchmarks.

    Raises:
        RuntimeError: if they cannot be installed, with the end of what was said.
    """
    pins = ROOT / "bench" / f"peers-{name}.txt" if name else PINS
    folder = HOME / pins.stem
    python, stamp, wanted = folder / "bin" / "python", folder / ".pins", _fingerprint(pins)
    if stamp.exists() and stamp.read_text() == wanted and python.exists():
        return python
    with Console(stderr=True).status(f"{pins.stem}: making their environment") as status:
        say = status.update
        _finish([sys.executable, "-m", "venv", "--clear", str(folder)], say)
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
        _finish([*pip, "-r", str(pins)], say)
    stamp.write_text(wanted)
    return python


def _finish(command: list[str], say: Callable[[str], None]) -> None:
    """Run to the end, showing the newest line."""
    end: deque[str] = deque(maxlen=20)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            end.append(line)
            say(f"peers: {line.strip()[:100]}")
    if process.returncode:
        raise RuntimeError(f"The peers could not be installed: {' '.join(command)}\n{''.join(end)}")


def _fingerprint(pins: Path) -> str:
    return hashlib.sha256(f"{sys.version}\n{pins.read_text()}".encode()).hexdigest()
