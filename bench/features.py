"""Features: everything issue 3 asks for, each figure beside its peers' on the same data in the same call."""

from __future__ import annotations

from bench import joins, kills, memory, online, stream, taxi, windows

PARTS = {
    "joins": joins.run,
    "windows": windows.run,
    "online": online.run,
    "stream": stream.run,
    "memory": memory.run,
    "kills": kills.run,
    "taxi": taxi.run,
}
