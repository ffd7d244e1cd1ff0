"""How a use case wants to be served: what its answers may lack, and when a new version is taken back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Bake:
    """When a version that answers clients for the first time is taken back by itself.

    It is compared with the version it shares the traffic with, or followed, over the same gateways. A version whose
    errors or latency are worse than allowed, on enough requests, is taken back within seconds.

    Args:
        period: how long it is watched after it got its share of the traffic.
        min_requests: fewest requests it must have answered, or failed, before it is judged.
        max_error_ratio: share of failed requests (0 to 1) it may have on top of what the other version has.
        max_latency_ratio: how many times the other version's 99th percentile of latency its own may be.
        latency_floor: latencies up to this are never held against it.
    """

    period: timedelta = timedelta(minutes=10)
    min_requests: int = 200
    max_error_ratio: float = 0.01
    max_latency_ratio: float = 2.0
    latency_floor: timedelta = timedelta(milliseconds=50)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a use case is served.

    Args:
        sticky_by: entities whose hash decides between two versions that share the traffic, so that the same user
            always gets the same one; empty: the first entity.
        without_features: when the online features cannot be read, answer with the declared ``defaults`` and say so
            in ``degraded``, or ``refuse`` with 503.
        log_share: share of the predict calls (0 to 1) that end in the prediction log. At 1, the default, none is lost
            once it is acknowledged; below, the calls that are kept are chosen by their prediction ids.
        bake: when a new version is taken back.
        start: how a version that the gate promotes begins: ``at_once`` for everybody; as a ``canary`` for a share of
            the entities, and for everybody once it has passed its bake; as a ``shadow`` that answers nobody, and for
            everybody once it was asked long enough and labels do not show it worse. The first version of all always
            begins at once.
        start_percent: how much a canary (of the entities) or a shadow (of the requests) gets, in (0, 100].
        start_period: how long it stays canary or shadow at least.
    """

    sticky_by: tuple[str, ...] = ()
    without_features: Literal["defaults", "refuse"] = "defaults"
    log_share: float = 1.0
    bake: Bake = field(default_factory=Bake)
    start: Literal["at_once", "canary", "shadow"] = "at_once"
    start_percent: float = 10.0
    start_period: timedelta = timedelta(minutes=10)
