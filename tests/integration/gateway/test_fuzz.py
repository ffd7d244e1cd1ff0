"""Requests made up from the OpenAPI document; ``python -m tests.fuzz 100000`` sends many more."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import fuzz


def test_nothing_that_can_be_sent_breaks_the_gateway(redis_server: str, namespace: str, tmp_path: Path) -> None:
    found = fuzz(redis_server, namespace, tmp_path, cases=1000)
    assert not found.failures, "\n\n".join(found.failures)
    assert found.statuses.total() > 900
    assert max(found.statuses) < 500
    assert {200, 202, 404, 422} <= set(found.statuses)
