import numpy as np
import pytest

from bench.http_bytes import request_bytes
from bench.open_load import OpenRun, Phase, open_loop, schedule
from bench.serving_overload import look, recovery_s
from tests.unit.bench.conftest import reply

REQUESTS = [request_bytes("/predict", b"%d" % i) for i in range(7)]


def test_calls_are_due_as_often_as_a_phase_says_and_in_order():
    due = schedule([Phase(1000, 2.0), Phase(100, 3.0)])
    assert (np.diff(due) >= 0).all()
    assert 1800 < (due < 2).sum() < 2200
    assert 240 < (due >= 2).sum() < 360
    assert due.max() < 5
    np.testing.assert_array_equal(due, schedule([Phase(1000, 2.0), Phase(100, 3.0)]))


def test_every_call_is_sent_when_it_is_due(serving):
    due = schedule([Phase(500, 0.4)])
    with serving(lambda body, asked: [reply(body)]) as port:
        run = open_loop(port, REQUESTS, due, connections=8)
    assert (run.status == 200).all()
    assert (run.latency_s > 0).all()
    assert run.answered(0.0, 1.0) == len(due)
    assert {kept.body for kept in run.kept if kept.body != b"%d" % kept.request} == set()


def test_waiting_for_a_connection_counts_as_latency(serving):
    with serving(lambda body, asked: [reply(body)]) as port:
        run = open_loop(port, REQUESTS, np.zeros(50), connections=1)
    assert (run.status == 200).all()
    assert run.latency_s[-1] > run.latency_s[0]


def test_refusals_and_hang_ups_are_told_apart(serving):
    def answer(body, asked):
        return [] if asked == 2 else [reply(b"", 503 if asked else 200)]

    with serving(answer) as port:
        run = open_loop(port, REQUESTS, np.linspace(0, 0.1, 9), connections=1)
    assert run.status.tolist() == [200, 503, 0] * 3


def _run(latency_s, refused=lambda due: np.zeros(len(due), dtype=bool)):
    due = np.arange(0.0, 20.0, 0.01)
    status = np.where(refused(due), 503, 200)
    return OpenRun(due, due + np.where(status == 503, 0.004, latency_s(due)), status, [], 0.1)


def test_recovery_is_when_latency_is_as_before():
    slow = _run(lambda due: np.where((due >= 5) & (due < 12.5), 0.5, 0.01))
    assert recovery_s(slow, 5.0, 10.0, 20.0) == pytest.approx(2.0, abs=0.11)  # the second half of its second is good
    assert recovery_s(_run(lambda due: np.full(len(due), 0.01)), 5.0, 10.0, 20.0) == 0
    for_ever = _run(lambda due: np.where(due >= 5, 0.5, 0.01))
    assert recovery_s(for_ever, 5.0, 10.0, 20.0) == 10


def test_refusals_after_an_overload_are_no_recovery():
    run = _run(lambda due: np.full(len(due), 0.01), lambda due: (due >= 5) & (due < 13))
    assert recovery_s(run, 5.0, 10.0, 20.0) == pytest.approx(2.5, abs=0.11)


def test_an_overload_is_told_by_what_was_answered_and_refused():
    seen = look(_run(lambda due: np.full(len(due), 0.01), lambda due: (due >= 5) & (due < 10)), 5.0, 10.0, 20.0)
    assert seen.goodput == pytest.approx(0.0, abs=1.0)
    assert seen.shed_p99_ms == pytest.approx(4.0)
    assert (seen.shed_share, seen.lost) == (1.0, 0)
