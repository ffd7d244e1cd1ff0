from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from core.serving_policy import Bake
from serving.baking import judge_bake, quantile_s
from serving.gateway_report import Tally

BAKE = Bake(period=timedelta(minutes=10), min_requests=100, max_error_ratio=0.01, max_latency_ratio=2.0)
EARLY, LATE = timedelta(minutes=1), timedelta(minutes=10)


def tally(requests: int, errors: int = 0, seconds: float = 0.003, slow: int = 0, slow_s: float = 0.3) -> Tally:
    made = Tally()
    for i in range(requests):
        made.failed() if i < errors else made.answered(slow_s if i < errors + slow else seconds)
    return made


@pytest.mark.parametrize(
    ("candidate", "baseline", "action"),
    [
        (tally(200), tally(2000), "wait"),
        (tally(99, errors=99), tally(2000), "wait"),  # too few
        (tally(100, errors=100), tally(2000), "rollback"),
        (tally(200, errors=2), tally(2000), "wait"),  # 1 % more is allowed
        (tally(200, errors=5), tally(2000), "wait"),  # by chance
        (tally(200, errors=9), tally(2000), "rollback"),
        (tally(20_000, errors=270), tally(2000), "rollback"),
        (tally(200, errors=20), tally(2000, errors=200), "wait"),  # no worse than the other
        (tally(200, errors=9), None, "rollback"),
        (tally(200, slow=2), tally(2000), "wait"),
        (tally(200, slow=5), tally(2000), "wait"),  # by chance
        (tally(200, slow=9), tally(2000), "rollback"),
        (tally(20_000, slow=270), tally(2000), "rollback"),
        (tally(200, slow=9, slow_s=0.04), tally(2000), "wait"),  # under the floor
        (tally(200, slow=9), tally(2000, slow=90), "wait"),  # no slower than the other
        (tally(200, slow=9), None, "rollback"),
        (tally(200), None, "wait"),
        (tally(200, seconds=60.0), tally(2000, seconds=60.0), "wait"),
    ],
)
def test_what_is_worse_than_allowed_is_taken_back_and_the_rest_is_watched_on_or_passes(
    candidate: Tally, baseline: Tally | None, action: str
) -> None:
    early = judge_bake(BAKE, candidate, baseline, EARLY)
    assert early.action == action
    assert judge_bake(BAKE, candidate, baseline, LATE).action == ("pass" if action == "wait" else action)
    assert orjson.loads(orjson.dumps(early.evidence))["requests"] == candidate.requests


def test_the_reason_has_the_numbers() -> None:
    decision = judge_bake(BAKE, tally(200, slow=9), tally(2000), EARLY)
    assert decision.reason == "its 99th percentile of latency is 433 ms; 50 ms are allowed, on 200 requests"
    assert judge_bake(BAKE, tally(3), None, LATE).reason.endswith("3 requests, judged from 100 on")


def test_quantiles_lie_within_their_bucket() -> None:
    assert quantile_s(Tally(), 0.99) is None
    assert quantile_s(tally(5, errors=5), 0.99) is None
    assert quantile_s(tally(100, seconds=0.0005), 0.99) == pytest.approx(0.00099)
    assert quantile_s(tally(100, seconds=0.15), 0.5) == pytest.approx(0.15)
    assert quantile_s(tally(100, seconds=99), 0.5) == 10.0
