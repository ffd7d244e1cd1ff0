"""What ``features show`` says of an entity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from features.online.inspection import Shown
from stack.commands.show import _since_changed

HOUR = timedelta(hours=1)


def _shown(kind: str, changed_at: datetime | None) -> Shown:
    return Shown(
        view="v", kind=kind, source="s", entity="a", values={}, degraded=(), changed_at=changed_at, age=-9 * HOUR,
        expires_in=None, tiles=1, size_bytes=8,
    )  # fmt: skip


def test_a_window_changed_by_the_machines_clock_also_in_a_replay() -> None:
    changed_at = datetime.now(UTC) - HOUR
    age = _since_changed(_shown("window", changed_at)).age
    assert age is not None
    assert HOUR <= age < 2 * HOUR
    assert _since_changed(_shown("window", None)).age == -9 * HOUR
    assert _since_changed(_shown("batch", changed_at)).age == -9 * HOUR
