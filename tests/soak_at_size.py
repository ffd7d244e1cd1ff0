"""The soak at any size: ``python -m tests.soak_at_size <events> <kills>``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from features.offline.log import OfflineLog
from tests.conftest import find_redis_server, free_port
from tests.redis_process import running_redis
from tests.soak import Soak


def main(events: int, kills: int) -> int:
    """Run with kills and without; 0 if both came to the same, and everything is in the offline log once."""
    with tempfile.TemporaryDirectory() as folder, running_redis(find_redis_server(), free_port(), Path(folder)) as url:
        killed = Soak(url, False, "soak", Path(folder) / "killed", 1, events)
        clean = Soak(url, False, "soak", Path(folder) / "clean", 1, events)
        client = killed.client()
        found = []
        for soak, count in ((killed, kills), (clean, 0)):
            started = time.monotonic()
            found.append(soak.run(client, count))
            print(f"{events:,} events, {count} kills: {time.monotonic() - started:.1f} s, {found[-1]}")  # noqa: T201
            soak.clear(client)
        ids = sorted(OfflineLog(killed.settings.offline_dir).events("sales")["id"])
        same = found[0] == found[1], ids == killed.expected_ids()
        print(f"equal digests: {same[0]}; offline log exactly once: {same[1]}")  # noqa: T201
        return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
