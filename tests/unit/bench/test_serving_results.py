import numpy as np
import pytest

from bench.load import Run
from bench.measure import Result
from bench.servers.evergreen import ALONE, NAME
from bench.serving import PARTS
from bench.serving_overload import Seen
from bench.serving_overload import results as overload_results
from bench.serving_rates import bare_results, peer_results, strongest_results
from bench.serving_stages import means_ms, stages


def _runs(rate, half_ms=1.0):
    return [Run(1.0, np.full(rate, half_ms / 1e3), {200: rate}, [], 0.1)] * 5


STRONG = {"TorchServe alone, 1 worker": _runs(800), "TorchServe alone, 2 workers": _runs(900, 2.0)}


def _with_targets(results):
    return [(r.value, r.against.rpartition(": ")[2], r.reached) for r in results if r.target is not None]


def test_the_parts_are_those_of_the_issue():
    assert list(PARTS) == ["one", "rank", "peers", "echo", "overload", "slow_loris", "stages"]


def test_with_64_connections_rates_count_against_the_best_of_each():
    runs = {NAME: _runs(1000), **STRONG, "FastAPI, 2 workers": _runs(501)}
    found = _with_targets(strongest_results("one", 64, runs))
    assert found == [(1000, "TorchServe alone, 2 workers", False), (1000, "FastAPI, 2 workers", False)]
    ranked = _with_targets(strongest_results("rank", 64, runs))
    assert [(value, reached) for value, _, reached in ranked] == [(50_000, False), (50_000, True)]


def test_with_one_connection_the_median_counts():
    runs = {NAME: _runs(1000, 0.5), **STRONG, "FastAPI, 2 workers": _runs(501, 0.4)}
    found = _with_targets(strongest_results("one", 1, runs))
    assert found == [
        (pytest.approx(0.5), "TorchServe alone, 1 worker", True),
        (pytest.approx(0.5), "FastAPI, 2 workers", False),
    ]
    assert _with_targets(strongest_results("rank", 1, runs)) == []


def test_frameworks_count_by_the_best_of_them_and_the_echo_by_itself():
    found = _with_targets(
        peer_results([{NAME: _runs(900), "Triton": _runs(300)}, {NAME: _runs(700), "MLflow": _runs(100)}])
    )
    assert found == [(900, "Triton", True)]
    runs = {NAME: _runs(100), ALONE: _runs(700), "bare ASGI echo": _runs(1000)}
    assert [reached for _, _, reached in _with_targets(bare_results(64, runs))] == [True, False]


def test_an_overload_is_held_to_goodput_refusal_and_recovery():
    most = Result("most", 250_000.0, "scores/s", "higher")
    fine = overload_results(2, most, [Seen(950.0, 40.0, 0.5, 0, 3.0, 0.1)] * 5)
    assert [r.reached for r in fine if r.target is not None] == [True] * 4
    bad = overload_results(10, most, [Seen(850.0, 60.0, 0.9, 1, 12.0, 0.1)] * 5)
    assert [r.reached for r in bad if r.target is not None] == [False] * 4


def test_stages_are_means_between_two_looks_at_the_metrics():
    page = (
        'evergreen_gateway_stage_seconds_sum{use_case="a",stage="queue"} %s\n'
        'evergreen_gateway_stage_seconds_count{use_case="a",stage="queue"} %s\n'
        'evergreen_gateway_stage_seconds_sum{use_case="b",stage="queue"} 1.0\n'
        'evergreen_gateway_stage_seconds_count{use_case="b",stage="queue"} 10.0\n'
    )
    assert means_ms(stages(page % ("2.0", "5.0")), stages(page % ("2.5", "1005.0"))) == {"queue": pytest.approx(0.5)}
    assert means_ms({}, {"log": (0.0, 0.0)}) == {}
