"""Loss over time, window by window: what was found at earlier looks, corrected by the labels that came late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from core.use_case import UseCase
from monitoring.facts import LossPoint, MonitorFacts, PerformanceFacts
from monitoring.live import Earlier, Past, Served
from monitoring.performance import join_labels, loss_point

POINTS = 12
"""How many windows are kept with a decision at most."""


def follow(
    use_case: UseCase, facts: MonitorFacts, found: PerformanceFacts | None, past: Past, served: Served
) -> tuple[LossPoint, ...]:
    """The loss of the newest windows at a look, oldest first.

    Windows follow one another from the moment a version was trained on; the last point is the look's own window,
    which ends when its newest labels were due. Labels that came late, since the look before, have the windows that had
    ended measured again, whichever version answered.

    Args:
        use_case: whose.
        facts: of the look; version and moments count.
        found: of the look's own window.
        past: with the looks before, and what reads earlier windows.
        served: what the look saw.
    """
    window = use_case.policy.monitor_window
    before = past.looks[-1] if past.looks else None
    ended = () if before is None else _ended(before, facts.version, window)
    if past.earlier is not None:
        if before is not None and ended and _has_late_labels(served, before.as_of, ended):
            ended = tuple(_again(use_case, point, past.earlier, facts.as_of) for point in ended)
        ended += tuple(_since(use_case, facts, before, past.earlier))
    own = _own(use_case, facts, found)
    return (*sorted(ended, key=lambda point: point.at), *own)[-POINTS:]


def _ended(before: MonitorFacts, version: str | None, window: timedelta) -> tuple[LossPoint, ...]:
    """The points of an earlier look but for those of a window that goes on."""
    known = tuple(point for point in before.losses if point.from_at is not None)
    if not known or known[-1].at != before.as_of or before.version != version or before.trained_at is None:
        return known
    return known if not (before.as_of - before.trained_at) % window else known[:-1]


def _has_late_labels(served: Served, since: datetime, ended: tuple[LossPoint, ...]) -> bool:
    """Whether labels that came after `since` may be of predictions of windows that had ended."""
    if served.labels.empty:
        return False
    new = served.labels.loc[served.labels["known_at"] > since, "prediction_id"]
    end = max(point.to_at for point in ended if point.to_at is not None)
    after = served.predictions.loc[served.predictions["at"] >= end, "prediction_id"]
    return not bool(new.isin(after).all())


def _again(use_case: UseCase, point: LossPoint, earlier: Earlier, as_of: datetime) -> LossPoint:
    """The same window with the labels known by now; what is no longer logged stays as it was found."""
    assert point.version is not None and point.from_at is not None and point.to_at is not None
    return _measured(use_case, point.version, point.from_at, point.to_at, earlier, as_of) or point


def _since(
    use_case: UseCase, facts: MonitorFacts, before: MonitorFacts | None, earlier: Earlier
) -> Iterator[LossPoint]:
    """Windows of the version that ended between two looks, and are not the look's own."""
    window, horizon = use_case.policy.monitor_window, use_case.label.horizon
    if facts.version is None or facts.trained_at is None:
        return
    since = facts.trained_at if before is None else before.as_of
    done = (facts.as_of - facts.trained_at) // window
    for i in range(max(done - POINTS, 0), done):
        due_at = facts.trained_at + (i + 1) * window
        if since < due_at < facts.as_of:
            end = due_at - horizon
            point = _measured(use_case, facts.version, end - window, end, earlier, facts.as_of)
            if point is not None:
                yield point


def _measured(
    use_case: UseCase, version: str, since: datetime, until: datetime, earlier: Earlier, as_of: datetime
) -> LossPoint | None:
    read, horizon = earlier(since, until), use_case.label.horizon
    labelled = join_labels(read.predictions, read.labels, horizon, as_of)
    confidence = use_case.policy.gate.confidence
    return loss_point(labelled, version, since, until, due_at=until + horizon, confidence=confidence)


def _own(use_case: UseCase, facts: MonitorFacts, found: PerformanceFacts | None) -> tuple[LossPoint, ...]:
    if found is None or found.log_loss is None or not found.coverage:
        return ()
    end = facts.as_of - use_case.label.horizon
    point = LossPoint(
        at=facts.as_of, rows=found.rows, log_loss=found.log_loss.value, version=facts.version,
        from_at=end - use_case.policy.monitor_window, to_at=end, due=round(found.rows / found.coverage),
        low=found.log_loss.low, high=found.log_loss.high,
    )  # fmt: skip
    return (point,)
