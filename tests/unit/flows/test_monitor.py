"""A look watches, audits, looks back and tells, in that order; what fails is told as well."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from core.decision import Decision
from flows import monitor as module
from tests.sample_use_case import sample_use_case

NOW = datetime(2019, 2, 5, tzinfo=UTC)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that are taken, of two use cases of which the second cannot be watched."""
    taken: list[str] = []
    use_cases = [SimpleNamespace(use_case=sample_use_case(name)) for name in ("good", "broken")]
    context = SimpleNamespace(settle=lambda: None, select=lambda _: use_cases, moment=lambda name, as_of: NOW)

    def watch(_: Any, use_case: Any, moment: datetime) -> Decision:
        taken.append(f"watch {use_case.name}")
        if use_case.name == "broken":
            raise ValueError("cannot be watched")
        return Decision("wait", "as it is")

    monkeypatch.setattr(module, "open_context", lambda: context)
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("monitor"))
    monkeypatch.setattr(module, "watch", watch)
    monkeypatch.setattr(module, "audit", lambda _, use_case, moment: taken.append(f"audit {use_case.name}"))
    monkeypatch.setattr(module, "look_back", lambda _, use_case, moment: taken.append(f"look back {use_case.name}"))
    monkeypatch.setattr(module, "finish_rollout", lambda _, use_case, moment: taken.append(f"finish {use_case.name}"))
    monkeypatch.setattr(module, "send_dispatches", lambda _, name: taken.append(f"dispatch {name}"))
    monkeypatch.setattr(module, "send_alerts", lambda _, name, as_of: taken.append(f"tell {name}"))
    return taken


def test_one_use_case_that_fails_keeps_nothing_from_the_others(steps: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be watched"):
        module.monitor.fn("all")

    assert steps == [
        "watch good", "audit good", "look back good", "finish good", "dispatch good", "tell good",
        "watch broken", "dispatch broken", "tell broken",
    ]  # fmt: skip
