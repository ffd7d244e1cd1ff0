"""The flow that computes batch features and publishes them to the online store."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger

from core.decision import Decision
from core.use_case import UseCase
from features.definitions import BatchView, feature_set
from features.materialization import compute_batch_view, publish
from flows.context import FlowContext, open_context

ACTOR = "flow materialize"


@flow(name="materialize")
def materialize(use_case: str, as_of: str | None = None) -> dict[str, int]:
    """Compute every batch view of a use case (or of ``all``) from the event log, and publish it.

    Args:
        use_case: its name, or ``all``.
        as_of: ISO 8601 moment to compute for; now by default.

    Returns:
        Position in the log of each publication, by ``<use case>/<view>``.
    """
    context, positions = open_context(), {}
    context.settle()
    problems: list[Exception] = []
    for declared in context.select(use_case):
        name = declared.use_case.name
        for view in feature_set(declared.use_case).batch_views:
            try:
                position = publish_view(context, declared.use_case, view, context.moment(name, as_of))
            except Exception as problem:  # a view that cannot be computed must not keep the others from it
                get_run_logger().error("%s/%s: %s", name, view.name, problem)
                problems.append(problem)
                continue
            if position is not None:
                positions[f"{name}/{view.name}"] = position
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ExceptionGroup("some views could not be computed", problems)
    get_run_logger().info("published %s", ", ".join(positions) or "nothing")
    return positions


def publish_view(context: FlowContext, use_case: UseCase, view: BatchView, moment: datetime) -> int | None:
    """Compute and publish one view and record it; None if there was nothing to compute it from."""
    frame = compute_batch_view(context.log, use_case, view, moment)
    if frame.empty:
        decision = Decision("skip", f"{view.name}: no events to compute it from", {"view": view.name, "rows": 0})
        context.ledger.record(use_case.name, "materialize", decision, actor=ACTOR, as_of=moment)
        return None
    position = publish(context.redis, context.keys, use_case, view, frame, moment)
    evidence = {"view": view.name, "rows": len(frame), "position": position}
    decision = Decision("publish", f"{view.name}: {len(frame)} rows", evidence)
    context.ledger.record(use_case.name, "materialize", decision, actor=ACTOR, as_of=moment)
    return position
