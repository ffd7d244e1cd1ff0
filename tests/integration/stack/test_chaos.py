"""The short forms of ``python -m tests.chaos`` and ``python -m tests.crashes``, in one stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import chaos, crashes
from tests.chaos_stack import ChaosStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosStack]:
    with ChaosStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def test_nothing_is_lost_wrong_or_late_whatever_is_killed(stack: ChaosStack) -> None:
    seen, faults = chaos.run(stack, chaos.in_short, versions=2)
    assert not faults, f"{faults}\n{chaos.table(seen)}"
    assert [each.what for each in seen] == ["switch", "all these at once", "Redis", "JVM"]
    assert all(record.answers for each in seen for record in each.records)
    assert any(each.errors for each in seen if each.what in chaos.MAY_FAIL), "a killed JVM must have been noticed"


def test_a_deployer_that_dies_at_a_write_leaves_what_the_next_one_finishes(stack: ChaosStack, tmp_path: Path) -> None:
    found = crashes.run(stack, tmp_path, crashes.in_short)
    assert not found.faults, found
    assert [crash.write for crash in found.crashes] == ["deploy", "publish"]
    assert all(crash.answers for crash in found.crashes)
