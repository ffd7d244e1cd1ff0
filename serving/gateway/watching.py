"""Letting those who look after the service see single predict requests: in traces, and in the log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from core.errors import RequestError
from serving.gateway.access_log import AccessLog
from serving.gateway.coalescer import Stages
from serving.gateway.exchange import RawHeaders, header
from serving.gateway.predictor import Scored
from serving.gateway.tracing import HEADER, NoTracing, Stage, Trace, Tracing


class Watch:
    """Takes note of predict requests.

    Args:
        route: the route they come by, e.g. ``/v1/models/{use_case}/predict``.
        use_case: what they ask for.
        tracing: takes those that are traced.
        access_log: takes all of them.
    """

    def __init__(self, route: str, use_case: str, tracing: Tracing, access_log: AccessLog) -> None:
        self._name = f"POST {route}"
        self._use_case = use_case
        self._facts = {"http.request.method": "POST", "http.route": route, "evergreen.use_case": use_case}
        self._tracing = tracing
        self._traces = not isinstance(tracing, NoTracing)
        self._access_log = access_log

    def begin(self, headers: RawHeaders) -> Trace | None:
        """The trace that a request belongs to; None if it is not traced."""
        return self._tracing.begin(header(headers, HEADER)) if self._traces else None

    def answered(self, scored: Scored, trace: Trace | None, began_s: float, ended_s: float) -> None:
        """Take note of a request that was answered. Moments are those of `time.monotonic`."""
        self._access_log.answered(self._use_case, scored.version, ended_s - began_s, scored.ids)
        if trace is not None:
            facts: dict[str, str | int] = {
                "evergreen.version": scored.version,
                "evergreen.instances": len(scored.ids),
                "evergreen.degraded": len(scored.degraded),
                "evergreen.prediction_id": scored.ids[0],
                "http.response.status_code": 200,
            }
            self._record(trace, began_s, ended_s, _parts(scored.stages), facts, failed=False)

    def failed(self, error: BaseException, trace: Trace | None, began_s: float) -> None:
        """Take note of a request that was refused or failed; the log tells those that a version was asked for."""
        if trace is not None:
            facts: dict[str, str | int] = {"error.type": type(error).__name__}
            is_ours = not isinstance(error, RequestError)
            self._record(trace, began_s, time.monotonic(), (), facts, failed=is_ours)

    def _record(
        self,
        trace: Trace,
        began_s: float,
        ended_s: float,
        parts: Sequence[tuple[str, float, float]],
        facts: dict[str, str | int],
        *,
        failed: bool,
    ) -> None:
        offset_ns = time.time_ns() - time.monotonic_ns()

        def at_ns(moment_s: float) -> int:
            """Within the request: the event loop's clock, which some moments are of, may lag behind by a little."""
            return offset_ns + int(min(max(moment_s, began_s), ended_s) * 1e9)

        stages: list[Stage] = [(name, at_ns(start_s), at_ns(end_s)) for name, start_s, end_s in parts]
        self._tracing.record(
            trace, self._name,
            started_ns=at_ns(began_s), ended_ns=at_ns(ended_s), stages=stages,
            attributes={**self._facts, **facts}, failed=failed,
        )  # fmt: skip


def _parts(stages: Stages) -> list[tuple[str, float, float]]:
    """What a request was made of, with beginning and end.

    The model host says how long its parts took, not when: they stand in their order in the middle of the call, with
    the way there before them and the way back behind.
    """
    inside = (("features", stages.features_s), ("model", stages.model_s), ("log", stages.log_s))
    call_s = stages.answered_s - stages.called_s
    at_s = stages.called_s + max(0.0, call_s - sum(seconds for _, seconds in inside)) / 2
    parts = [("queue", stages.asked_s, stages.called_s), ("call", stages.called_s, stages.answered_s)]
    for name, seconds in inside:
        parts.append((name, at_s, at_s + seconds))
        at_s += seconds
    return parts
