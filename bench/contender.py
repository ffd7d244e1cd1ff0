"""The inside of a contender's process: it prepares, then does its work once for every line it is sent.

Standard library only, because it runs in the peers' environment and in the product's.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def serve(work: Callable[[], Any], save: Callable[[Any, str], None], before: Callable[[], None] = lambda: None) -> None:
    """Answer each line of standard input with one line of JSON, until it ends.

    ``run`` does the work and answers ``seconds``, and in bytes ``before`` and ``peak``: the memory resident before it,
    and the most while it ran. ``save <path>`` does the work and keeps its result. What else the process prints goes
    to standard error.

    Args:
        work: what is measured.
        save: writes a result to a path.
        before: what has to be done before each time, and is not measured.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        before()
        verb, _, path = line.strip().partition(" ")
        if verb == "save":
            save(work(), path)
            answers.write(json.dumps({"saved": path}) + "\n")
        else:
            answers.write(json.dumps(_measured(work)) + "\n")


def _measured(work: Callable[[], Any]) -> dict[str, float]:
    gc.collect()
    _forget_peak()
    before = _resident("VmRSS")
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    del result
    return {"seconds": seconds, "before": before, "peak": _resident("VmHWM")}


def _forget_peak() -> None:
    if _STATUS.exists():
        # 5: "reset the peak resident set size to the process's current value" (proc(5))
        Path("/proc/self/clear_refs").write_text("5")


def _resident(field: str) -> int:
    """Bytes. Off Linux the most there ever was, which is too much for ``VmRSS``.

    `resource` alone will not do: what it tells of a child on Linux begins with its parent's peak.
    """
    if not _STATUS.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
