from __future__ import annotations

import logging

import pytest

from core.errors import DependencyDown, Overloaded, RequestError
from serving.gateway.access_log import AccessLog

LOGGER = "serving.gateway.access_log"


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_what_went_well_is_told_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(slow_s=1.0)
    for level, told in ((logging.INFO, 0), (logging.DEBUG, 1)):
        caplog.clear()
        with caplog.at_level(level, LOGGER):
            log.answered("toy", "7", 0.5, ["a", "b"])
        assert len(caplog.records) == told


def test_what_was_slow_or_failed_is_told_with_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(slow_s=1.0)
    log.answered("toy", "7", 1.5, [str(i) for i in range(50)])
    log.failed("toy", "8", 0.01, ["a"], DependencyDown("Redis", "it is away"))
    slow, failed = caplog.records
    assert slow.getMessage() == "predict slow by version 7 in 1500.0 ms (0, 1, 2, …)"
    assert slow.prediction_ids == [str(i) for i in range(20)]
    assert (slow.use_case, slow.version, slow.duration_ms, slow.instances) == ("toy", "7", 1500.0, 50)
    told = "predict failed by version 8 in 10.0 ms (a): DependencyDown Redis does not answer: it is away"
    assert failed.getMessage() == told


def test_what_clients_do_wrong_and_what_is_shed_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(slow_s=1.0)
    for error in (RequestError("No.", remedy="Do better."), Overloaded("full")):
        log.failed("toy", "7", 0.01, ["a"], error)
    assert not caplog.records


def test_trouble_is_told_five_times_a_second_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = Now()
    log = AccessLog(slow_s=1.0, monotonic=now)
    for _ in range(100):
        log.failed("toy", "7", 0.01, ["a"], ValueError("no"))
    assert len(caplog.records) == 5
    now.s = 1.0
    log.answered("toy", "7", 2.0, ["a"])
    log.answered("toy", "7", 2.0, ["a"])
    assert [getattr(record, "left_out", 0) for record in caplog.records[5:]] == [95, 0]
    assert "95 lines like it were left out" in caplog.records[5].getMessage()
