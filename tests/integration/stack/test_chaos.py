"""The short form of ``python -m tests.chaos``."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import MAY_FAIL, in_short, run, table


def test_nothing_is_lost_wrong_or_late_whatever_is_killed(tmp_path: Path) -> None:
    seen, faults = run(tmp_path, in_short, versions=2)
    assert not faults, f"{faults}\n{table(seen)}"
    assert [each.what for each in seen] == ["switch", "all these at once", "Redis", "JVM"]
    assert all(record.answers for each in seen for record in each.records)
    assert any(each.errors for each in seen if each.what in MAY_FAIL), "a killed JVM must have been noticed"
